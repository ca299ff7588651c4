// What every call has in common: names, unknown fields, details of errors.
#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using Stub = v1::Secateur::Stub;

TEST(Calls, RefuseFieldsThatTheServerDoesNotKnow) {
  LiveServer live;
  v1::CreateExpertRequest request = LawRequest();
  auto& spec = *request.mutable_spec();
  spec.GetReflection()->MutableUnknownFields(&spec)->AddVarint(999, 1);
  lro::Operation operation;
  grpc::Status status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::UNIMPLEMENTED, "NOT_HONOURED"));
  EXPECT_EQ(ErrorOf(status).field, "spec.#999");

  v1::UploadCorpusRequest upload;
  upload.mutable_metadata()->set_format(static_cast<v1::CorpusFormat>(99));
  v1::UploadCorpusResponse response;
  status = live.Upload({upload}, &response);
  EXPECT_THAT(status, IsError(grpc::UNIMPLEMENTED, "NOT_HONOURED"));
  EXPECT_EQ(ErrorOf(status).field, "metadata.format");
}

TEST(Calls, NameTheLabelThatIsNotASlug) {
  LiveServer live;
  v1::UploadCorpusRequest upload;
  (*upload.mutable_metadata()->mutable_corpus()->mutable_labels())["language"] = "English!";
  v1::UploadCorpusResponse response;
  const grpc::Status status = live.Upload({upload}, &response);
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "metadata.corpus.labels");
  EXPECT_THAT(status.error_message(), HasSubstr("English!"));
}

// Each method with a malformed name and with one that is not there.
template <class Request, class Response>
void ExpectNamesAreChecked(LiveServer& live,
                           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
                           const std::string& missing) {
  Request request;
  Response response;
  const std::string label = Request::descriptor()->name();
  for (const std::string& name : {std::string(), std::string("x"), missing + "0", missing + "/",
                                  "/" + missing, missing.substr(0, missing.rfind('/') + 1)}) {
    request.set_name(name);
    const grpc::Status status = live.Call(method, request, &response);
    EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT")) << label << name;
    EXPECT_EQ(ErrorOf(status).field, "name") << label << name;
  }
  request.set_name(missing);
  const grpc::Status status = live.Call(method, request, &response);
  EXPECT_THAT(status, IsError(grpc::NOT_FOUND, "NOT_FOUND")) << label;
  EXPECT_EQ(ErrorOf(status).resource, missing) << label;
}

TEST(Calls, CheckResourceNames) {
  LiveServer live;
  const std::string digits(40, 'a');
  ExpectNamesAreChecked(live, &Stub::GetCorpus, "corpora/c" + digits);
  ExpectNamesAreChecked(live, &Stub::DeleteCorpus, "corpora/c" + digits);
  ExpectNamesAreChecked(live, &Stub::GetProfile, "models/tiny/profiles/p" + digits);
  ExpectNamesAreChecked(live, &Stub::DeleteProfile, "models/tiny/profiles/p" + digits);
  ExpectNamesAreChecked(live, &Stub::GetExpert, "models/tiny/experts/e" + digits);
  ExpectNamesAreChecked(live, &Stub::DeleteExpert, "models/tiny/experts/e" + digits);
}

TEST(Models, TellTheirShape) {
  LiveServer live;
  v1::ListModelsResponse response;
  ASSERT_RPC_OK(live.Call(&Stub::ListModels, v1::ListModelsRequest(), &response));
  ASSERT_EQ(response.models_size(), 1);
  const v1::Model& model = response.models(0);
  EXPECT_EQ(model.name(), "models/tiny");
  EXPECT_EQ(model.family(), "llama");
  EXPECT_EQ(model.state(), v1::Model::READY);
  EXPECT_EQ(model.intermediate_size(), 128);
  EXPECT_EQ(model.hidden_size(), 64);
  EXPECT_EQ(model.vocabulary_size(), 272);
  EXPECT_EQ(model.digest().size(), 64U);
  EXPECT_GT(model.resident_bytes(), 0);
  v1::GetModelRequest request;
  request.set_name("models/tiny");
  v1::Model got;
  ASSERT_RPC_OK(live.Call(&Stub::GetModel, request, &got));
  EXPECT_EQ(got.SerializeAsString(), model.SerializeAsString());
  request.set_name("models/other");
  const grpc::Status status = live.Call(&Stub::GetModel, request, &got);
  EXPECT_THAT(status, IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  EXPECT_THAT(status.error_message(), HasSubstr("tiny"));
}

}  // namespace
}  // namespace secateur
