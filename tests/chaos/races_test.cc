// Many clients that create, delete and list the same things at once. No answer is partial or
// wrong, errors are the ones of that method, and what is left is whole and the same after a
// restart.
#include <algorithm>
#include <atomic>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/base/digest.h"
#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::Each;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;
using Codes = std::set<grpc::StatusCode>;

constexpr int kThreads = 8;
constexpr int kTurns = 60;  // of each

// Calls `turn` with a source of chance of its own in each of kThreads threads, kTurns times.
template <class Turn>
void Race(Turn turn) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&turn, i] {
      std::mt19937 random(i);
      for (int n = 0; n < kTurns; ++n) turn(random);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

template <class T>
const T& OneOf(const std::vector<T>& all, std::mt19937& random) {
  return all[random() % all.size()];
}

class Races : public testing::Test {
 protected:
  Races()
      : live_([](ServerOptions& options) {
          options.workers = 3;
          options.max_queued_operations = 1000;
        }) {}

  // True for OK. Anything else must be one of `codes`, and say what it is.
  bool Allow(const grpc::Status& status, const Codes& codes) {
    ++calls_;
    if (status.ok()) return true;
    ++refused_;
    const RpcError error = ErrorOf(status);
    EXPECT_TRUE(codes.contains(error.code)) << error.code << ": " << error.message;
    EXPECT_EQ(error.domain, "secateur.dev") << error.message;
    return false;
  }
  // As Allow, of the operation's end.
  bool Ends(const lro::Operation& operation, const Codes& codes) {
    const lro::Operation done = live_.Wait(operation);
    if (done.has_response()) return true;
    const RpcError error = ErrorOf(done.error());
    EXPECT_TRUE(codes.contains(error.code)) << error.code << ": " << error.message;
    EXPECT_EQ(error.domain, "secateur.dev") << error.message;
    return false;
  }
  template <class Request>
  grpc::Status Delete(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                   google::protobuf::Empty*),
                      const std::string& name) {
    Request request;
    request.set_name(name);
    google::protobuf::Empty empty;
    return live_.Call(method, request, &empty);
  }
  std::vector<v1::Corpus> Corpora() {
    v1::ListCorporaResponse response;
    EXPECT_RPC_OK(live_.Call(&Stub::ListCorpora, v1::ListCorporaRequest(), &response));
    return {response.corpora().begin(), response.corpora().end()};
  }
  template <class Request, class Response, class Item>
  std::vector<Item> OfModel(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                         Response*),
                            const google::protobuf::RepeatedPtrField<Item>& (Response::*items)()
                                const) {
    Request request;
    request.set_parent("models/tiny");
    Response response;
    EXPECT_RPC_OK(live_.Call(method, request, &response));
    return {(response.*items)().begin(), (response.*items)().end()};
  }
  std::vector<v1::Profile> Profiles() {
    return OfModel(&Stub::ListProfiles, &v1::ListProfilesResponse::profiles);
  }
  std::vector<v1::Expert> Experts() {
    return OfModel(&Stub::ListExperts, &v1::ListExpertsResponse::experts);
  }
  std::multiset<std::string> Everything() {
    std::multiset<std::string> all;
    for (const auto& corpus : Corpora()) all.insert(corpus.SerializeAsString());
    for (const auto& profile : Profiles()) all.insert(profile.SerializeAsString());
    for (const auto& expert : Experts()) all.insert(expert.SerializeAsString());
    return all;
  }
  // And the server knows what the store has.
  void ExpectAWholeStore() {
    live_.ExpectAWholeStore();
    const auto before = Everything();
    live_.Restart();
    EXPECT_EQ(Everything(), before);
  }
  void Report(const std::string& what) const {
    std::cout << "chaos: " << what << ", " << calls_ << " calls, " << refused_ << " refused\n";
  }

  LiveServer live_;
  std::atomic<int> calls_{0}, refused_{0};
};

TEST_F(Races, OfUploadsChangesAndDeletionsOfTheSameCorpora) {
  std::vector<std::string> texts, names;
  std::map<std::string, v1::Corpus> known;
  for (int i = 0; i < 3; ++i) {
    texts.push_back(JsonLines(20 + i, "theme " + std::to_string(i)));
    const v1::Corpus corpus = live_.Upload({{"language", "en"}}, texts.back());
    names.push_back(corpus.name());
    known[corpus.name()] = corpus;
  }
  const auto check = [&](const v1::Corpus& corpus) {
    const v1::Corpus& expected = known.at(corpus.name());
    EXPECT_EQ(corpus.digest(), expected.digest());
    EXPECT_EQ(corpus.document_count(), expected.document_count());
    EXPECT_THAT(corpus.labels(), SizeIs(1));
    EXPECT_TRUE(corpus.labels().contains("language"));
  };
  Race([&](std::mt19937& random) {
    const std::string& name = OneOf(names, random);
    switch (random() % 8) {
      case 0:
      case 1: {
        v1::UploadCorpusResponse response;
        const auto messages = UploadMessages({{"language", "en"}}, OneOf(texts, random));
        if (Allow(live_.Upload(messages, &response), {grpc::ALREADY_EXISTS})) {
          check(response.corpus());
        }
        return;
      }
      case 2:
        Allow(live_.DeleteCorpus(name), {grpc::NOT_FOUND});
        return;
      case 3: {
        v1::UpdateCorpusRequest request;
        request.mutable_corpus()->set_name(name);
        (*request.mutable_corpus()->mutable_labels())["language"] = random() % 2 ? "en" : "de";
        v1::Corpus corpus;
        if (Allow(live_.Call(&Stub::UpdateCorpus, request, &corpus),
                  {grpc::NOT_FOUND, grpc::ABORTED})) {
          check(corpus);
        }
        return;
      }
      case 4: {
        v1::GetCorpusRequest request;
        request.set_name(name);
        v1::Corpus corpus;
        if (Allow(live_.Call(&Stub::GetCorpus, request, &corpus), {grpc::NOT_FOUND})) {
          check(corpus);
        }
        return;
      }
      case 5: {
        v1::CreateProfileRequest request;
        request.set_parent("models/tiny");
        request.add_corpora(name);
        lro::Operation operation;
        if (Allow(live_.Call(&Stub::CreateProfile, request, &operation), {grpc::NOT_FOUND})) {
          Ends(operation, {grpc::NOT_FOUND});
        }
        return;
      }
      default:
        for (const v1::Corpus& corpus : Corpora()) check(corpus);
        for (const v1::Profile& profile : Profiles()) {
          EXPECT_EQ(profile.document_count(), known.at(profile.corpus()).document_count());
        }
    }
  });
  ExpectAWholeStore();
  for (const std::string& text : texts) {
    v1::UploadCorpusResponse response;
    Allow(live_.Upload(UploadMessages({{"domain", "law"}}, text), &response),
          {grpc::ALREADY_EXISTS});
  }
  live_.ProfileAll();
  EXPECT_THAT(Profiles(), SizeIs(texts.size()));
  Report("races of corpora");
}

TEST_F(Races, OfExpertsThatAreMadeReadAndDeleted) {
  live_.Upload({{"language", "en"}}, JsonLines(10, "laws"));
  live_.ProfileAll();
  std::vector<v1::CreateExpertRequest> requests = {EnglishRequest(0.25), EnglishRequest(0.5)};
  std::vector<std::string> names;
  std::map<std::string, std::map<std::string, std::string>> digests;  // by expert and file
  for (const v1::CreateExpertRequest& request : requests) {
    const v1::Expert expert = live_.Make(request);
    names.push_back(expert.name());
    digests[expert.name()] = DigestsOf(expert);
  }
  Race([&](std::mt19937& random) {
    const std::string& name = OneOf(names, random);
    switch (random() % 8) {
      case 0:
      case 1: {
        v1::CreateExpertRequest request = OneOf(requests, random);
        if (random() % 2 == 0) request.set_cache_policy(v1::REFRESH);
        lro::Operation operation;
        if (Allow(live_.Create(request, &operation), {})) Ends(operation, {grpc::ABORTED});
        return;
      }
      case 2:
        Allow(Delete(&Stub::DeleteExpert, name), {grpc::NOT_FOUND});
        return;
      case 3:
        for (const v1::Profile& profile : Profiles()) {
          Allow(Delete(&Stub::DeleteProfile, profile.name()), {grpc::NOT_FOUND});
        }
        return;
      case 4: {
        v1::GetExpertRequest request;
        request.set_name(name);
        v1::Expert expert;
        if (Allow(live_.Call(&Stub::GetExpert, request, &expert), {grpc::NOT_FOUND})) {
          EXPECT_EQ(DigestsOf(expert), digests.at(name));
        }
        return;
      }
      case 5:
        for (const v1::Expert& expert : Experts()) {
          EXPECT_EQ(DigestsOf(expert), digests.at(expert.name()));
        }
        return;
      default: {
        std::string bytes;
        if (Allow(live_.Download(name, "model.safetensors", 0, &bytes), {grpc::NOT_FOUND})) {
          EXPECT_EQ(Sha256Of(bytes).Hex(), digests.at(name).at("model.safetensors"));
        }
      }
    }
  });
  ExpectAWholeStore();
  for (const v1::CreateExpertRequest& request : requests) {
    const v1::Expert expert = live_.Make(request);
    EXPECT_EQ(DigestsOf(expert), digests.at(expert.name()));
  }
  Report("races of experts");
}

TEST_F(Races, OfManyUploadsOfOneCorpusMakeItOnceForAll) {
  const std::string text = JsonLines(500, "the same");
  constexpr int kUploads = 16;
  std::vector<v1::UploadCorpusResponse> responses(kUploads);
  std::vector<std::thread> threads;
  for (v1::UploadCorpusResponse& response : responses) {
    threads.emplace_back([&] {
      EXPECT_RPC_OK(live_.Upload(UploadMessages({{"language", "en"}}, text), &response));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::string> names;
  for (const auto& response : responses) names.push_back(response.corpus().name());
  EXPECT_THAT(names, Each(names[0]));
  EXPECT_EQ(std::count_if(responses.begin(), responses.end(),
                          [](const auto& response) { return !response.existed(); }),
            1);
  EXPECT_THAT(Corpora(), SizeIs(1));
  ExpectAWholeStore();
  live_.ProfileAll();
  std::cout << "chaos: one corpus, " << kUploads << " uploads\n";
}

}  // namespace
}  // namespace secateur
