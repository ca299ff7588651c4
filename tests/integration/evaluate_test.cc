// EvaluateExpert, and the gate of CreateExpert, over gRPC.
#include <filesystem>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

// Questions with two or three options, the second of which is right.
std::string Questions(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const std::string prompt = "Question " + std::to_string(i) + ": where is the court? Answer: ";
    lines += R"({"text":")" + prompt + R"(B. by the river","answer_byte":)" +
             std::to_string(prompt.size()) + R"(,"label":1,"choices":["in winter","by the river")" +
             (i % 2 == 0 ? R"(,"a number")" : "") + "]}\n";
  }
  return lines;
}

class EvaluateExpertTest : public testing::Test {
 protected:
  EvaluateExpertTest() {
    UploadLawCorpora(live_);
    text_ = live_.Upload({{"language", "en"}}, JsonLines(4, "held out"), v1::EVALUATION).name();
    questions_ = live_.Upload({{"task", "qa"}}, Questions(9), v1::EVALUATION).name();
    v1::CreateExpertRequest request = LawRequest();
    request.mutable_spec()->add_evaluation_corpora(questions_);
    request.mutable_spec()->add_evaluation_corpora(text_);
    expert_ = live_.Make(request);
  }

  v1::EvaluateExpertRequest Request() const {
    v1::EvaluateExpertRequest request;
    request.set_name(expert_.name());
    request.add_corpora(text_);
    request.add_corpora(questions_);
    return request;
  }
  grpc::Status Start(const v1::EvaluateExpertRequest& request, lro::Operation* operation) {
    return live_.Call(&Stub::EvaluateExpert, request, operation);
  }
  lro::Operation Run(const v1::EvaluateExpertRequest& request) {
    lro::Operation operation;
    EXPECT_RPC_OK(Start(request, &operation));
    return live_.Wait(operation);
  }

  LiveServer live_;
  std::string text_, questions_;
  v1::Expert expert_;
};

TEST_F(EvaluateExpertTest, MeasuresWhatCreateExpertMeasured) {
  const lro::Operation operation = Run(Request());
  const v1::OperationMetadata metadata = MetadataOf(operation);
  EXPECT_EQ(metadata.method(), "EvaluateExpert");
  EXPECT_EQ(metadata.target(), expert_.name());
  const auto response = ResponseOf<v1::EvaluateExpertResponse>(operation);
  EXPECT_EQ(response.expert(), expert_.name());
  ASSERT_THAT(response.evaluations(), SizeIs(2));
  ASSERT_THAT(expert_.evaluations(), SizeIs(2));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(response.evaluations(i).DebugString(), expert_.evaluations(i).DebugString());
    const v1::EvaluationResult& result = response.evaluations(i);
    const bool questions = result.corpus() == questions_;
    EXPECT_EQ(result.choice_count(), questions ? 9 : 0);
    EXPECT_EQ(result.document_count(), questions ? 9 : 4);
    EXPECT_GT(result.expert_bits_per_byte(), 0);
    if (!questions) continue;
    EXPECT_LE(result.accuracy_difference_low(), result.expert_accuracy() - result.base_accuracy());
    EXPECT_GE(result.accuracy_difference_high(), result.expert_accuracy() - result.base_accuracy());
  }
}

TEST_F(EvaluateExpertTest, ScoresNoMoreTokensThanAskedFor) {
  v1::EvaluateExpertRequest request = Request();
  request.set_max_document_tokens(11);
  const auto response = ResponseOf<v1::EvaluateExpertResponse>(Run(request));
  for (const v1::EvaluationResult& result : response.evaluations()) {
    EXPECT_EQ(result.token_count(), 10 * result.document_count());
  }
}

TEST_F(EvaluateExpertTest, NamesTheFieldThatCannotBe) {
  const auto error = [&](const std::function<void(v1::EvaluateExpertRequest&)>& change) {
    v1::EvaluateExpertRequest request = Request();
    change(request);
    lro::Operation operation;
    const grpc::Status status = Start(request, &operation);
    EXPECT_FALSE(status.ok());
    return ErrorOf(status);
  };
  const std::string digits(40, 'a');
  RpcError found = error([](auto& request) { request.clear_corpora(); });
  EXPECT_EQ(found.code, grpc::INVALID_ARGUMENT);
  EXPECT_EQ(found.field, "corpora");
  found = error([&](auto& request) {
    for (int i = 0; i < 31; ++i) request.add_corpora("corpora/c" + digits);
  });
  EXPECT_EQ(found.code, grpc::INVALID_ARGUMENT);
  EXPECT_THAT(found.message, HasSubstr("at most 32"));
  found = error([](auto& request) { request.add_corpora("c1"); });
  EXPECT_EQ(found.field, "corpora[2]");
  found = error([&](auto& request) { request.add_corpora("corpora/c" + digits); });
  EXPECT_EQ(found.code, grpc::NOT_FOUND);
  found = error([&](auto& request) {
    request.add_corpora(live_.Upload({{"language", "fr"}}, JsonLines(1, "french")).name());
  });
  EXPECT_EQ(found.code, grpc::FAILED_PRECONDITION);
  EXPECT_EQ(found.field, "corpora");
  EXPECT_THAT(found.message, HasSubstr("CALIBRATION"));
  for (const int64_t tokens : {int64_t{1}, int64_t{-5}, int64_t{1} << 40}) {
    found = error([&](auto& request) { request.set_max_document_tokens(tokens); });
    EXPECT_EQ(found.code, grpc::INVALID_ARGUMENT);
    EXPECT_EQ(found.field, "max_document_tokens");
  }
  found = error([&](auto& request) { request.set_name("models/tiny/experts/e" + digits); });
  EXPECT_EQ(found.code, grpc::NOT_FOUND);
  EXPECT_EQ(found.resource, "models/tiny/experts/e" + digits);
}

TEST_F(EvaluateExpertTest, StopsWhenItIsCancelled) {
  v1::EvaluateExpertRequest request = Request();
  request.add_corpora(
      live_.Upload({{"language", "en"}}, JsonLines(3000, "long"), v1::EVALUATION).name());
  lro::Operation operation;
  ASSERT_RPC_OK(Start(request, &operation));
  ASSERT_TRUE(live_.HasProgress(operation.name(), "evaluate"));
  EXPECT_EQ(MetadataOf(live_.GetOperation(operation.name())).progress().total(), 2 * 3013);
  ASSERT_RPC_OK(live_.Cancel(operation.name()));
  EXPECT_EQ(live_.Wait(operation).error().code(), grpc::CANCELLED);
}

TEST_F(EvaluateExpertTest, EndsInDataLossWhenStoredBytesHaveChanged) {
  const std::string path = expert_.uri().substr(5) + "/model.safetensors";
  std::string bytes = FilesOf(expert_.uri().substr(5)).at("model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::filesystem::remove(path);
  live_.dir().Write(std::filesystem::relative(path, live_.dir().path()).string(), bytes);
  const lro::Operation operation = Run(Request());
  ASSERT_TRUE(operation.has_error());
  EXPECT_EQ(operation.error().code(), grpc::DATA_LOSS);
  EXPECT_THAT(operation.error().message(), HasSubstr("model.safetensors"));
}

// A random model, half of whose neurons are gone, is worse; by how much is measured first.
class GateTest : public testing::Test {
 protected:
  GateTest() {
    UploadLawCorpora(live_);
    for (const char* theme : {"held out", "apart"}) {
      request_.mutable_spec()->add_evaluation_corpora(
          live_.Upload({{"language", "en"}}, JsonLines(3, theme), v1::EVALUATION).name());
    }
  }

  lro::Operation Run() {
    lro::Operation operation;
    EXPECT_RPC_OK(live_.Create(request_, &operation));
    return live_.Wait(operation);
  }
  void SetGate(double max_rise, const std::string& corpus = "") {
    request_.clear_gate();
    request_.add_gate()->set_max_rise(max_rise);
    request_.mutable_gate(0)->set_corpus(corpus);
  }
  static double Rise(const v1::EvaluationResult& result) {
    return result.expert_bits_per_byte() / result.base_bits_per_byte() - 1;
  }

  TempDir out_;
  LiveServer live_{
      [this](ServerOptions& options) { options.allow_write = {"file:" + out_.path()}; }};
  v1::CreateExpertRequest request_ = LawRequest(0.5);
};

TEST_F(GateTest, PublishesNothingUnlessItIsMetAndChecksWhatWasMadeBefore) {
  SetGate(100);
  const auto expert = ResponseOf<v1::Expert>(Run());
  ASSERT_THAT(expert.evaluations(), SizeIs(2));
  v1::DeleteExpertRequest remove;
  remove.set_name(expert.name());
  google::protobuf::Empty empty;
  ASSERT_RPC_OK(live_.Call(&Stub::DeleteExpert, remove, &empty));
  const v1::EvaluationResult* worst = &expert.evaluations(0);
  if (Rise(expert.evaluations(1)) > Rise(*worst)) worst = &expert.evaluations(1);
  ASSERT_GT(Rise(*worst), 0);

  // Just short of it: no expert, no copy.
  const double short_of = Rise(*worst) * 0.999;
  SetGate(short_of, worst->corpus());
  request_.set_output_uri("file:" + out_.Join("expert"));
  const auto before = live_.Stored();
  lro::Operation operation = Run();
  ASSERT_TRUE(operation.has_error());
  RpcError error = ErrorOf(operation.error());
  EXPECT_EQ(error.code, grpc::FAILED_PRECONDITION);
  EXPECT_EQ(error.reason, "GATE_NOT_MET");
  EXPECT_TRUE(error.precondition);
  EXPECT_THAT(error.message, HasSubstr(worst->corpus()));
  EXPECT_EQ(live_.Stored(), before);
  EXPECT_TRUE(FilesOf(out_.path()).empty());

  // The gate is no part of the identity.
  SetGate(Rise(*worst) * 1.001);
  const auto again = ResponseOf<v1::Expert>(Run());
  EXPECT_EQ(again.name(), expert.name());
  EXPECT_FALSE(FilesOf(out_.path()).empty());

  // It is there now, and still does not meet the stricter one; with another place for a copy or
  // without, also when it is made again.
  for (const std::string& uri : {std::string(), "file:" + out_.Join("second")}) {
    for (const v1::CachePolicy policy : {v1::USE, v1::REFRESH, v1::ONLY_IF_CACHED}) {
      SetGate(short_of);
      request_.set_output_uri(uri);
      request_.set_cache_policy(policy);
      operation = Run();
      ASSERT_TRUE(operation.has_error()) << uri << policy;
      EXPECT_EQ(ErrorOf(operation.error()).reason, "GATE_NOT_MET");
    }
  }
  v1::GetExpertRequest get;
  get.set_name(expert.name());
  v1::Expert got;
  ASSERT_RPC_OK(live_.Call(&Stub::GetExpert, get, &got));
  EXPECT_EQ(got.SerializeAsString(), again.SerializeAsString());
}

TEST_F(GateTest, NeedsSomethingToMeasure) {
  SetGate(0.2);
  request_.mutable_spec()->clear_evaluation_corpora();
  lro::Operation operation;
  const grpc::Status status = live_.Create(request_, &operation);
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "gate");
}

}  // namespace
}  // namespace secateur
