#include "server/pipeline/build_expert.h"

#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "server/artifact/manifest.h"
#include "server/base/errors.h"
#include "server/pipeline/build_profile.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class BuildExpertTest : public testing::Test {
 protected:
  BuildExpertTest() { request_.evaluation_corpora = {AddCorpora(stores_)}; }

  // The two labels of request_; returns the id of a held-out corpus.
  static std::string AddCorpora(TestStores& stores) {
    stores.Add({{"language", "en"}}, 4, "english");
    stores.Add({{"domain", "law"}}, 3, "law");
    return stores.Add({{"language", "en"}}, 2, "held out", CorpusPurpose::kEvaluation).id();
  }

  const TinyResident tiny_;
  const std::shared_ptr<ResidentModel> model_ = tiny_.model;
  TestStores stores_;
  ExpertRequest request_ = RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 1}});
};

TEST_F(BuildExpertTest, LeavesNothingWhenItIsCancelledWhereverThatIs) {
  int reports = 0;
  std::set<std::string> phases;
  {
    RunContext context([&](const Progress& progress) {
      ++reports;
      phases.insert(progress.phase);
    });
    ASSERT_OK(BuildExpert(*model_, request_, {}, stores_.all(), context));
    EXPECT_THAT(stores_.Keys("experts/"), Not(IsEmpty()));
  }
  EXPECT_THAT(phases, testing::IsSupersetOf(
                          {"profile", "compose", "write", "verify", "evaluate", "publish"}));
  int cancelled = 0;
  std::set<std::string> cancelled_in;
  for (int stop = 1; stop <= reports; ++stop) {
    TestStores stores;
    AddCorpora(stores);
    const std::vector<std::string> corpora = stores.Keys("");
    int seen = 0;
    std::string phase;
    RunContext* running = nullptr;
    RunContext context([&](const Progress& progress) {
      if (++seen != stop) return;
      phase = progress.phase;
      running->Cancel();
    });
    running = &context;
    const auto expert = BuildExpert(*model_, request_, {}, stores.all(), context);
    if (expert.ok()) {  // asked for too late
      EXPECT_THAT(stores.experts.List(), SizeIs(1)) << phase;
      continue;
    }
    ++cancelled;
    cancelled_in.insert(phase);
    EXPECT_THAT(expert, StatusIs(absl::StatusCode::kCancelled)) << phase;
    EXPECT_LE(seen - stop, 1) << phase;  // one batch, tensor or part more at most
    EXPECT_THAT(stores.Keys("experts/"), IsEmpty()) << phase;
    EXPECT_THAT(stores.experts.List(), IsEmpty());
    // Whole profiles may stay: they are what the next attempt needs.
    EXPECT_EQ(stores.Keys("").size(), corpora.size() + stores.profiles.List().size()) << phase;
    RunContext again;
    EXPECT_OK(BuildExpert(*model_, request_, {}, stores.all(), again)) << phase;
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_THAT(cancelled_in, testing::IsSupersetOf({"profile", "write", "evaluate"}));
}

TEST_F(BuildExpertTest, LooksAtNoFurtherLayerOfCompensationAfterACancel) {
  request_ = RequestFor({{"language", {"en"}, 1}});
  stores_.Add({{"language", "en"}}, 20, "more");
  const char* phases[] = {"measure", "tune", "compensate", "judge", "sequential", "solve"};
  for (const bool second_order : {false, true}) {
    for (const std::string phase : phases) {
      request_.second_order = second_order;
      // Where it is tried, it may be what is taken, and then nothing is solved on the base.
      request_.compensation =
          phase == "solve" ? Compensation::kLeastSquares : Compensation::kSequential;
      int layers = 0, after = 0;  // reports of the phase, and of any behind the cancel
      RunContext* running = nullptr;
      RunContext context([&](const Progress& progress) {
        if (running->cancelled()) ++after;
        if (progress.phase != phase) return;
        ++layers;
        running->Cancel();
      });
      running = &context;
      EXPECT_THAT(BuildExpert(*model_, request_, {}, stores_.all(), context),
                  StatusIs(absl::StatusCode::kCancelled))
          << phase;
      EXPECT_EQ(layers, 1) << phase;
      EXPECT_EQ(after, 0) << phase;
      EXPECT_THAT(stores_.Keys("experts/"), IsEmpty()) << phase;
    }
  }
}

// What was measured of a selection serves every size of it, until text is added.
TEST_F(BuildExpertTest, MeasuresASelectionOnceForAllSizes) {
  request_ = RequestFor({{"language", {"en"}, 1}});
  request_.second_order = true;
  request_.compensation = Compensation::kLeastSquares;
  stores_.Add({{"language", "en"}}, 20, "more");
  const auto measures = [&](double ratio) {
    request_.budget = Budget(NeuronRatio{ratio});
    bool measured = false;
    RunContext context([&](const Progress& progress) { measured |= progress.phase == "measure"; });
    EXPECT_OK(BuildExpert(*model_, request_, {}, stores_.all(), context)) << ratio;
    return measured;
  };
  EXPECT_TRUE(measures(0.25));
  EXPECT_FALSE(measures(0.5));
  EXPECT_FALSE(measures(0.75));
  stores_.Add({{"language", "en"}}, 5, "yet more");
  EXPECT_TRUE(measures(0.25));
}

// Of random letters, from which nothing is learnt about the next document.
std::string RandomDocuments(int documents, std::mt19937& random) {
  std::string text;
  for (int i = 0; i < documents; ++i) {
    std::string letters(60, ' ');
    for (char& letter : letters) letter = static_cast<char>('a' + random() % 26);
    text += StrCat(R"({"text":")", letters, R"("})", "\n");
  }
  return text;
}

// Where plain pruning does better, the neurons are those of relevance, and the card says so.
TEST_F(BuildExpertTest, NamesTheRuleThatChoseTheNeurons) {
  std::mt19937 random(1);
  std::map<v1::Compensation, std::set<std::string>> rules;  // on the card, by what was chosen
  for (int selection = 0; selection < 12; ++selection) {
    const std::string topic = StrCat("topic-", selection);
    stores_.AddJsonLines({{"topic", topic}}, RandomDocuments(5, random));
    request_ = RequestFor({{"topic", {topic}, 1}});
    request_.second_order = true;
    request_.compensation = Compensation::kLeastSquares;
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const StoredExpert expert,
                         BuildExpert(*model_, request_, {}, stores_.all(), context));
    ASSERT_OK_AND_ASSIGN(const std::string card,
                         stores_.experts.ReadFile(expert, "README.md", 0, 1 << 20));
    const std::string line = "Rule that chose the neurons: ";
    const size_t begin = card.find(line) + line.size();
    ASSERT_OK_AND_ASSIGN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
    rules[manifest.compensation().chosen().compensation()].insert(
        card.substr(begin, card.find('\n', begin) - begin));
  }
  using Rules = std::set<std::string>;
  EXPECT_EQ(rules, (std::map<v1::Compensation, Rules>{{v1::NONE, {"RELATIVE\\_MEAN"}},
                                                      {v1::LEAST_SQUARES, {"SECOND\\_ORDER"}}}));
}

TEST_F(BuildExpertTest, MakesOneExpertOfIdenticalRequestsAtOnce) {
  std::vector<std::thread> threads;
  std::vector<std::string> prefixes(4);
  for (std::string& prefix : prefixes) {
    threads.emplace_back([this, &prefix] {
      RunContext context;
      const auto expert = BuildExpert(*model_, request_, {}, stores_.all(), context);
      EXPECT_OK(expert);
      if (expert.ok()) prefix = expert->prefix;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(prefixes, testing::Each(prefixes[0]));
  EXPECT_THAT(stores_.profiles.List(), SizeIs(2));
  EXPECT_DOUBLE_EQ(stores_.metrics.expert_cache_hits.Value(), 3);
  for (const std::string& key : stores_.Keys("experts/")) {
    EXPECT_TRUE(key.starts_with(prefixes[0])) << key;
  }
}

TEST_F(BuildExpertTest, IsFoundOnceItHasBeenMade) {
  EXPECT_THAT(FindExpert(*model_, request_, stores_.all()),
              IsOkAndHolds(testing::Eq(std::nullopt)));
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const StoredExpert made,
                       BuildExpert(*model_, request_, {}, stores_.all(), context));
  ASSERT_OK_AND_ASSIGN(const auto found, FindExpert(*model_, request_, stores_.all()));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->id, made.id);
  EXPECT_EQ(found->manifest_json, made.manifest_json);
  ExpertRequest other = request_;
  other.budget = Budget(NeuronRatio{0.5});
  EXPECT_FALSE((*FindExpert(*model_, other, stores_.all())).has_value());
}

TEST_F(BuildExpertTest, LivesAsLongAsTheLongestLivedRequestAsksAndIsMadeAnewAfterIt) {
  RunContext context;
  const auto build = [&](const Lifetime& lifetime, bool refresh = false) {
    const BuildOptions options{.refresh = refresh, .lifetime = lifetime};
    const auto expert = BuildExpert(*model_, request_, options, stores_.all(), context);
    EXPECT_OK(expert);
    return expert.value_or(StoredExpert{});
  };
  const absl::Time start = stores_.clock.Now();
  const StoredExpert first = build({.ttl = absl::Hours(2)});
  EXPECT_EQ(first.expire_time, start + absl::Hours(2));
  EXPECT_EQ(build({.ttl = absl::Hours(1)}).expire_time, start + absl::Hours(2));
  EXPECT_EQ(build({.ttl = absl::Hours(3)}).expire_time, start + absl::Hours(3));
  EXPECT_EQ(build({.ttl = absl::Hours(4)}, /*refresh=*/true).expire_time, start + absl::Hours(4));
  EXPECT_EQ(stores_.experts.Find(first.id)->prefix, first.prefix);

  stores_.clock.Advance(absl::Hours(4));
  EXPECT_THAT(FindExpert(*model_, request_, stores_.all()),
              IsOkAndHolds(testing::Eq(std::nullopt)));
  const StoredExpert second = build({.ttl = absl::Hours(1)});
  EXPECT_NE(second.prefix, first.prefix);
  EXPECT_EQ(second.manifest_json, first.manifest_json);
  EXPECT_EQ(build({}).expire_time, absl::InfiniteFuture());
}

TEST_F(BuildExpertTest, DoesNothingWhenItsEndHasPassed) {
  const std::vector<std::string> before = stores_.Keys("");
  RunContext context;
  const BuildOptions options{.lifetime = {.until = stores_.clock.Now() - absl::Seconds(1)}};
  const auto expert = BuildExpert(*model_, request_, options, stores_.all(), context);
  EXPECT_THAT(expert, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(NotesOf(expert.status()).reason, "EXPIRED");
  EXPECT_EQ(stores_.Keys(""), before);
}

TEST_F(BuildExpertTest, LeavesNothingWhenTheTextIsNotWhatItsDigestSays) {
  for (const std::string& key : stores_.Keys("")) {
    ASSERT_OK_AND_ASSIGN(std::string bytes, stores_.blobs.Read(key, 0, 1 << 20));
    const size_t at = bytes.find("english");
    if (at == std::string::npos) continue;
    bytes[at] = 'E';
    ASSERT_OK(stores_.blobs.Delete(key));
    ASSERT_OK_AND_ASSIGN(auto writer, stores_.blobs.Create(key));
    ASSERT_OK(writer->Append(bytes));
    ASSERT_OK(writer->Commit());
  }
  RunContext context;
  EXPECT_THAT(BuildExpert(*model_, request_, {}, stores_.all(), context),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(stores_.Keys("experts/"), IsEmpty());
  EXPECT_THAT(stores_.profiles.List(), SizeIs(testing::Le(1U)));
}

TEST_F(BuildExpertTest, CountsProfilesThatAreThereAlready) {
  const std::vector<CorpusInfo> corpora =
      stores_.corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration});
  RunContext context;
  ASSERT_OK_AND_ASSIGN(
      const BuiltProfiles first,
      BuildProfiles(*model_, {corpora[0]}, {.max_document_tokens = 512}, stores_.all(), context));
  EXPECT_EQ(first.cached, 0);
  ASSERT_OK_AND_ASSIGN(
      const BuiltProfiles second,
      BuildProfiles(*model_, corpora, {.max_document_tokens = 512}, stores_.all(), context));
  EXPECT_EQ(second.cached, 1);
  ASSERT_THAT(second.profiles, SizeIs(2));
  EXPECT_EQ(second.profiles[0].content, first.profiles[0].content);
  ASSERT_OK_AND_ASSIGN(
      const BuiltProfiles shorter,
      BuildProfiles(*model_, corpora, {.max_document_tokens = 8}, stores_.all(), context));
  EXPECT_EQ(shorter.cached, 0);  // another profile
  EXPECT_GT(shorter.profiles[0].dropped_tokens, 0);
}

TEST_F(BuildExpertTest, TakesAProfileWithAttentionInPlaceOfOneWithout) {
  const std::vector<CorpusInfo> corpora =
      stores_.corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration});
  RunContext context;
  const auto build = [&](bool attention) {
    return BuildProfiles(*model_, corpora, {.max_document_tokens = 512, .attention = attention},
                         stores_.all(), context);
  };
  ASSERT_OK_AND_ASSIGN(const BuiltProfiles with, build(true));
  EXPECT_EQ(with.cached, 0);
  ASSERT_OK_AND_ASSIGN(const BuiltProfiles without, build(false));
  EXPECT_EQ(without.cached, 2);
  EXPECT_EQ(without.profiles[0].content, with.profiles[0].content);
  // The expert is the one that profiles without attention make.
  ASSERT_OK_AND_ASSIGN(const StoredExpert one,
                       BuildExpert(*model_, request_, {}, stores_.all(), context));
  TestStores others;
  request_.evaluation_corpora = {AddCorpora(others)};
  ASSERT_OK_AND_ASSIGN(const StoredExpert other,
                       BuildExpert(*model_, request_, {}, others.all(), context));
  EXPECT_EQ(one.id, other.id);
  for (size_t i = 0; i < one.files.size(); ++i) {
    EXPECT_EQ(one.files[i].digest, other.files[i].digest) << one.files[i].name;
  }
  ASSERT_OK_AND_ASSIGN(const BuiltProfiles again, build(true));
  EXPECT_EQ(again.cached, 2);
}

}  // namespace
}  // namespace secateur
