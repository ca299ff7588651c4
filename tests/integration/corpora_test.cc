// Corpora, profiles and dimensions over gRPC.
#include <algorithm>
#include <set>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

v1::UploadCorpusRequest Metadata(const LabelMap& labels) {
  v1::UploadCorpusRequest message;
  message.mutable_metadata()->mutable_corpus()->mutable_labels()->insert(labels.begin(),
                                                                         labels.end());
  return message;
}

v1::UploadCorpusRequest Data(const std::string& bytes, bool finish) {
  v1::UploadCorpusRequest message;
  message.set_data(bytes);
  message.set_finish(finish);
  return message;
}

std::vector<v1::Corpus> ListAll(LiveServer& live, const std::string& filter, int page_size = 0) {
  std::vector<v1::Corpus> all;
  v1::ListCorporaRequest request;
  request.set_filter(filter);
  request.set_page_size(page_size);
  do {
    v1::ListCorporaResponse response;
    EXPECT_RPC_OK(live.Call(&Stub::ListCorpora, request, &response));
    if (page_size > 0) {
      EXPECT_LE(response.corpora_size(), page_size);
    }
    all.insert(all.end(), response.corpora().begin(), response.corpora().end());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

TEST(Corpora, AreTheSameHoweverTheUploadIsCut) {
  LiveServer live;
  const std::string text = JsonLines(3, "law");
  std::vector<v1::UploadCorpusRequest> messages = {Metadata({{"language", "en"}})};
  for (const char c : text) messages.push_back(Data(std::string(1, c), false));
  messages.push_back(Data("", true));
  v1::UploadCorpusResponse bytewise, whole;
  ASSERT_RPC_OK(live.Upload(messages, &bytewise));
  ASSERT_RPC_OK(live.Upload({Metadata({{"language", "en"}}), Data(text, true)}, &whole));
  EXPECT_FALSE(bytewise.existed());
  EXPECT_TRUE(whole.existed());
  EXPECT_EQ(bytewise.corpus().name(), whole.corpus().name());
  EXPECT_EQ(whole.corpus().document_count(), 3);
  EXPECT_EQ(whole.corpus().name(), "corpora/c" + whole.corpus().digest().substr(0, 40));
}

TEST(Corpora, AreNotPublishedWithoutFinish) {
  LiveServer live;
  v1::UploadCorpusResponse response;
  EXPECT_THAT(
      live.Upload({Metadata({{"language", "en"}}), Data(JsonLines(3, "law"), false)}, &response),
      IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_THAT(ListAll(live, ""), IsEmpty());
  EXPECT_THAT(live.Stored(), IsEmpty());
  EXPECT_TRUE(live.HasNoTemporaryFiles());
}

TEST(Corpora, RefuseAStreamThatDoesNotBeginWithMetadataOrHasItTwice) {
  LiveServer live;
  v1::UploadCorpusResponse response;
  EXPECT_THAT(live.Upload({Data(JsonLines(1, "law"), true)}, &response),
              IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_THAT(live.Upload({Metadata({}), Metadata({}), Data(JsonLines(1, "law"), true)}, &response),
              IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_THAT(ListAll(live, ""), IsEmpty());
}

TEST(Corpora, NameTheLineOfABadDocument) {
  LiveServer live;
  v1::UploadCorpusResponse response;
  const grpc::Status status =
      live.Upload({Metadata({}), Data(JsonLines(2, "law") + "{\"text\":12}\n", true)}, &response);
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_THAT(status.error_message(), HasSubstr("line 3"));
}

TEST(Corpora, ThatAreKnownByTheirDigestAreAnsweredBeforeAnyData) {
  LiveServer live;
  const v1::Corpus corpus = live.Upload({{"language", "en"}}, JsonLines(3, "law"));
  v1::UploadCorpusRequest first = Metadata({{"language", "en"}});
  first.mutable_metadata()->mutable_corpus()->set_digest(corpus.digest());
  grpc::ClientContext context;
  v1::UploadCorpusResponse response;
  const auto writer = live.stub().UploadCorpus(&context, &response);
  ASSERT_TRUE(writer->Write(first));
  EXPECT_RPC_OK(writer->Finish());  // without data, finish or WritesDone
  EXPECT_TRUE(response.existed());
  EXPECT_EQ(response.corpus().name(), corpus.name());
}

TEST(Corpora, OfTheSameDocumentsUnderOtherLabelsAlreadyExist) {
  LiveServer live;
  const std::string text = JsonLines(3, "law");
  live.Upload({{"language", "en"}}, text);
  v1::UploadCorpusResponse response;
  const grpc::Status status =
      live.Upload({Metadata({{"language", "de"}}), Data(text, true)}, &response);
  EXPECT_THAT(status, IsError(grpc::ALREADY_EXISTS, "ALREADY_EXISTS"));
  EXPECT_THAT(status.error_message(), HasSubstr("language=en"));
  EXPECT_THAT(status.error_message(), HasSubstr("language=de"));
}

TEST(Corpora, AreListedByFilterAndInPagesOfAnySize) {
  LiveServer live;
  std::set<std::string> names;
  for (int i = 0; i < 7; ++i) {
    names.insert(live.Upload({{"language", i % 2 == 0 ? "en" : "de"}},
                             JsonLines(1, "theme" + std::to_string(i)),
                             i < 2 ? v1::EVALUATION : v1::CALIBRATION)
                     .name());
  }
  for (const int page_size : {0, 1, 2, 3, 7, 5000}) {
    std::vector<std::string> listed;
    for (const v1::Corpus& corpus : ListAll(live, "", page_size)) listed.push_back(corpus.name());
    EXPECT_THAT(listed, testing::ElementsAreArray(names)) << page_size;  // sorted, each once
  }
  EXPECT_THAT(ListAll(live, R"(labels.language = "en")", 1), SizeIs(4));
  EXPECT_THAT(ListAll(live, R"(labels.language = "en" AND purpose = CALIBRATION)"), SizeIs(3));
  EXPECT_THAT(ListAll(live, R"(labels.language = "fr")"), IsEmpty());
  v1::ListCorporaRequest request;
  v1::ListCorporaResponse response;
  request.set_filter("language is en");
  EXPECT_EQ(ErrorOf(live.Call(&Stub::ListCorpora, request, &response)).field, "filter");
  request.clear_filter();
  request.set_page_token("x");
  EXPECT_EQ(ErrorOf(live.Call(&Stub::ListCorpora, request, &response)).field, "page_token");
}

TEST(Corpora, ChangeTheirLabelsOnlyForWhoHasReadThem) {
  LiveServer live;
  const v1::Corpus corpus = live.Upload({{"language", "en"}}, JsonLines(1, "law"));
  v1::UpdateCorpusRequest request;
  *request.mutable_corpus() = corpus;
  (*request.mutable_corpus()->mutable_labels())["domain"] = "law";
  request.mutable_update_mask()->add_paths("labels");
  v1::Corpus updated;
  ASSERT_RPC_OK(live.Call(&Stub::UpdateCorpus, request, &updated));
  EXPECT_EQ(updated.name(), corpus.name());
  EXPECT_EQ(updated.labels().at("domain"), "law");
  EXPECT_NE(updated.etag(), corpus.etag());
  EXPECT_THAT(live.Call(&Stub::UpdateCorpus, request, &updated), IsError(grpc::ABORTED, "ABORTED"));
  request.mutable_update_mask()->add_paths("purpose");
  EXPECT_EQ(ErrorOf(live.Call(&Stub::UpdateCorpus, request, &updated)).field, "update_mask");
  live.Restart();
  v1::GetCorpusRequest get;
  get.set_name(corpus.name());
  ASSERT_RPC_OK(live.Call(&Stub::GetCorpus, get, &updated));
  EXPECT_EQ(updated.labels().at("domain"), "law");
}

TEST(Corpora, WithProfilesAreDeletedOnlyByForce) {
  LiveServer live;
  const v1::Corpus corpus = live.Upload({{"language", "en"}}, JsonLines(2, "law"));
  live.ProfileAll();
  v1::DeleteCorpusRequest request;
  google::protobuf::Empty empty;
  request.set_name(corpus.name());
  request.set_etag("7");
  EXPECT_THAT(live.Call(&Stub::DeleteCorpus, request, &empty), IsError(grpc::ABORTED, "ABORTED"));
  request.set_etag(corpus.etag());
  const grpc::Status refused = live.Call(&Stub::DeleteCorpus, request, &empty);
  EXPECT_THAT(refused, IsError(grpc::FAILED_PRECONDITION, "FAILED_PRECONDITION"));
  EXPECT_TRUE(ErrorOf(refused).precondition);
  request.set_force(true);
  ASSERT_RPC_OK(live.Call(&Stub::DeleteCorpus, request, &empty));
  EXPECT_THAT(live.Call(&Stub::DeleteCorpus, request, &empty),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  v1::ListProfilesRequest profiles;
  profiles.set_parent("models/tiny");
  v1::ListProfilesResponse response;
  ASSERT_RPC_OK(live.Call(&Stub::ListProfiles, profiles, &response));
  EXPECT_THAT(response.profiles(), IsEmpty());
  EXPECT_THAT(live.Stored(), IsEmpty());
}

TEST(Corpora, AreReadFromFilesThatTheOperatorAllows) {
  LiveServer live(
      [](ServerOptions& options) { options.allow_read = {"file:" + options.models[0].folder}; });
  const std::string text = JsonLines(40, "law");
  live.dir().Write("model/a.jsonl", text.substr(0, 1000));
  live.dir().Write("model/b.jsonl", text.substr(1000));
  live.dir().Write("secret.jsonl", text);
  v1::CreateCorpusRequest request;
  (*request.mutable_corpus()->mutable_labels())["language"] = "en";
  request.add_uris("file:" + live.dir().Join("model/a.jsonl"));
  request.add_uris("file:" + live.dir().Join("model/../secret.jsonl"));
  lro::Operation operation;
  const grpc::Status refused = live.Call(&Stub::CreateCorpus, request, &operation);
  EXPECT_THAT(refused, IsError(grpc::PERMISSION_DENIED, "PERMISSION_DENIED"));
  EXPECT_EQ(ErrorOf(refused).field, "uris[1]");
  request.set_uris(1, "file:" + live.dir().Join("model/missing.jsonl"));
  EXPECT_THAT(live.Call(&Stub::CreateCorpus, request, &operation),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  request.set_uris(1, "file:" + live.dir().Join("model/b.jsonl"));
  ASSERT_RPC_OK(live.Call(&Stub::CreateCorpus, request, &operation));
  const auto corpus = ResponseOf<v1::Corpus>(live.Wait(operation));
  EXPECT_EQ(corpus.name(), live.Upload({{"language", "en"}}, text).name());
}

TEST(Profiles, WithAttentionAreProfilesOfTheirOwnAndServeInPlaceOfThoseWithout) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter(R"(labels.language = "en")");
  request.set_attention(true);
  const auto create = [&] {
    lro::Operation operation;
    EXPECT_RPC_OK(live.Call(&Stub::CreateProfile, request, &operation));
    return ResponseOf<v1::CreateProfileResponse>(live.Wait(operation));
  };
  const v1::CreateProfileResponse with = create();
  ASSERT_THAT(with.profiles(), SizeIs(2));
  EXPECT_TRUE(with.profiles(0).attention());
  request.set_filter("*");
  request.set_attention(false);
  const v1::CreateProfileResponse rest = create();
  ASSERT_THAT(rest.profiles(), SizeIs(3));
  EXPECT_EQ(rest.cached_count(), 2);
  const auto known = [](const v1::Profile& profile) { return profile.attention(); };
  EXPECT_EQ(std::count_if(rest.profiles().begin(), rest.profiles().end(), known), 2);
  request.set_attention(true);
  const v1::CreateProfileResponse all = create();
  EXPECT_EQ(all.cached_count(), 2);
  EXPECT_EQ(std::count_if(all.profiles().begin(), all.profiles().end(), known), 3);
  // Known after a restart for what they are.
  live.Restart();
  v1::GetProfileRequest get;
  get.set_name(with.profiles(0).name());
  v1::Profile found;
  ASSERT_RPC_OK(live.Call(&Stub::GetProfile, get, &found));
  EXPECT_TRUE(found.attention());
}

TEST(Profiles, AreMadeOnceForEachCorpusAndSurviveARestart) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Corpus held_out =
      live.Upload({{"language", "en"}}, JsonLines(2, "held out"), v1::EVALUATION);
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter(R"(labels.language = "en")");
  lro::Operation operation;
  ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, request, &operation));
  const auto first = ResponseOf<v1::CreateProfileResponse>(live.Wait(operation));
  EXPECT_THAT(first.profiles(), SizeIs(2));
  EXPECT_EQ(first.cached_count(), 0);
  request.set_filter("*");
  ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, request, &operation));
  const auto second = ResponseOf<v1::CreateProfileResponse>(live.Wait(operation));
  EXPECT_THAT(second.profiles(), SizeIs(3));
  EXPECT_EQ(second.cached_count(), 2);
  request.clear_filter();
  request.add_corpora(held_out.name());
  const grpc::Status refused = live.Call(&Stub::CreateProfile, request, &operation);
  EXPECT_THAT(refused, IsError(grpc::FAILED_PRECONDITION, "FAILED_PRECONDITION"));
  EXPECT_EQ(ErrorOf(refused).field, "corpora[0]");

  live.Restart();
  v1::ListProfilesRequest list;
  list.set_parent("models/tiny");
  v1::ListProfilesResponse listed;
  ASSERT_RPC_OK(live.Call(&Stub::ListProfiles, list, &listed));
  ASSERT_THAT(listed.profiles(), SizeIs(3));
  for (const v1::Profile& profile : listed.profiles()) {
    v1::GetProfileRequest get;
    get.set_name(profile.name());
    v1::Profile got;
    ASSERT_RPC_OK(live.Call(&Stub::GetProfile, get, &got));
    EXPECT_EQ(got.SerializeAsString(), profile.SerializeAsString());
    EXPECT_GT(got.token_count(), got.document_count());
  }
}

TEST(Dimensions, TellWhatIsProfiledAndWhatIsNot) {
  LiveServer live;
  UploadLawCorpora(live);
  live.Upload({{"language", "fr"}}, JsonLines(2, "held out"), v1::EVALUATION);
  v1::CreateProfileRequest profile;
  profile.set_parent("models/tiny");
  profile.set_filter(R"(labels.language = "de")");
  lro::Operation operation;
  ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, profile, &operation));
  live.Wait(operation);
  v1::ListDimensionsRequest request;
  request.set_parent("models/tiny");
  request.set_page_size(3);
  std::vector<std::string> seen;
  do {
    v1::ListDimensionsResponse response;
    ASSERT_RPC_OK(live.Call(&Stub::ListDimensions, request, &response));
    for (const v1::Dimension& d : response.dimensions()) {
      seen.push_back(d.key() + "=" + d.value() + " " + std::to_string(d.document_count()) + " " +
                     std::to_string(d.profiled_corpus_count()) + "/" +
                     std::to_string(d.corpus_count()));
      EXPECT_EQ(d.unprofiled_corpora_size(), d.corpus_count() - d.profiled_corpus_count());
      EXPECT_EQ(d.token_count() > 0, d.profiled_corpus_count() > 0);
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(seen, ElementsAre("domain=cooking 5 0/1", "domain=law 10 1/2", "language=de 4 1/1",
                                "language=en 11 0/2"));
}

}  // namespace
}  // namespace secateur
