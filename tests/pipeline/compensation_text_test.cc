#include "server/pipeline/compensation_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

class CompensationTextTest : public testing::Test {
 protected:
  CompensationTextTest() {}

  CompensationText Read(const ResolvedSources& sources) {
    RunContext context;
    auto text = ReadCompensationText(*model_, request_, sources, stores_.all(), context);
    EXPECT_OK(text);
    return *std::move(text);
  }

  ResolvedSources Resolve() {
    auto sources = ResolveSources(request_, stores_.corpora);
    EXPECT_OK(sources);
    return *std::move(sources);
  }

  const TinyResident tiny_;
  const std::shared_ptr<ResidentModel> model_ = tiny_.model;
  TestStores stores_;
  ExpertRequest request_ =
      RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 3}}, RelevanceSource::kCompose);
};

constexpr int64_t kDocumentTokens = 128;  // at least, of one of these documents

struct Weights {
  double first = 0, others = 0;
  int64_t documents = 0;
};

void Add(const std::vector<WeightedBatch>& batches, Weights& sum) {
  for (const WeightedBatch& batch : batches) {
    ASSERT_EQ(batch.weights.size(), batch.batch.ids.size());
    const std::set<int64_t> starts(batch.batch.offsets.begin(), batch.batch.offsets.end() - 1);
    for (size_t token = 0; token < batch.weights.size(); ++token) {
      (starts.contains(static_cast<int64_t>(token)) ? sum.first : sum.others) +=
          batch.weights[token];
    }
    sum.documents += batch.batch.sequences();
  }
}

Weights WeightsOf(const CompensationText& text) {
  Weights sum;
  Add(text.calibration, sum);
  Add(text.held_out, sum);
  return sum;
}

TEST_F(CompensationTextTest, WeighsAllTokensToOneAndFirstTokensLikeOneIn200) {
  stores_.Add({{"language", "en"}}, 40, "english");
  stores_.Add({{"domain", "law"}}, 7, "law");
  const CompensationText text = Read(Resolve());
  const Weights sum = WeightsOf(text);
  EXPECT_NEAR(sum.first + sum.others, 1, 1e-5);
  EXPECT_NEAR(sum.first, 1.0 / 200, 1e-6);
  EXPECT_EQ(sum.documents, 47);
}

TEST_F(CompensationTextTest, HoldsOutEveryFifthDocument) {
  stores_.Add({{"language", "en"}}, 40, "english");
  stores_.Add({{"domain", "law"}}, 7, "law");
  const CompensationText text = Read(Resolve());
  Weights held_out;
  Add(text.held_out, held_out);
  EXPECT_EQ(held_out.documents, 9);
  // However the corpora were found, the same documents are held out.
  ResolvedSources reversed = Resolve();
  std::reverse(reversed.views.begin(), reversed.views.end());
  const CompensationText again = Read(reversed);
  ASSERT_EQ(again.held_out.size(), text.held_out.size());
  for (size_t i = 0; i < text.held_out.size(); ++i) {
    EXPECT_EQ(again.held_out[i].batch.ids, text.held_out[i].batch.ids);
    EXPECT_EQ(again.held_out[i].weights, text.held_out[i].weights);
  }
}

TEST_F(CompensationTextTest, HoldsOutADocumentOfFewButNotTheOnlyOne) {
  request_ = RequestFor({{"language", {"en"}, 1}}, RelevanceSource::kCell);
  for (int documents = 1; documents < 5; ++documents) {
    stores_.Add({{"language", "en"}}, 1, StrCat("english ", documents));
    const CompensationText text = Read(Resolve());
    Weights held_out;
    Add(text.held_out, held_out);
    EXPECT_EQ(held_out.documents, documents > 1 ? 1 : 0) << documents;
    const Weights sum = WeightsOf(text);
    EXPECT_EQ(sum.documents, documents);
    EXPECT_NEAR(sum.first + sum.others, 1, 1e-5);
  }
}

TEST_F(CompensationTextTest, CountsAViewByItsWeightHoweverMuchTextItHas) {
  stores_.Add({{"language", "en"}}, 40, "english");
  stores_.Add({{"domain", "law"}}, 7, "law");
  ResolvedSources sources = Resolve();
  ASSERT_EQ(sources.views.size(), 2U);
  const auto weight_of = [&](size_t view) {
    ResolvedSources one = sources;
    one.views = {sources.views[view]};
    const CompensationText text = Read(one);
    const Weights sum = WeightsOf(text);
    return sum.first + sum.others;
  };
  EXPECT_NEAR(weight_of(0), 0.25, 1e-5);
  EXPECT_NEAR(weight_of(1), 0.75, 1e-5);
}

// What a plan and admission count on, however many dimensions and values are selected.
TEST_F(CompensationTextTest, TakesNoMoreOfManyViewsThanOfOne) {
  std::vector<std::string> languages;
  for (int i = 0; i < 8; ++i) {
    languages.push_back(StrCat("l", i));
    stores_.Add({{"language", languages.back()}, {"domain", "law"}}, 2500, languages.back());
  }
  request_ =
      RequestFor({{"domain", {"law"}, 1}, {"language", languages, 3}}, RelevanceSource::kCompose);
  const ResolvedSources sources = Resolve();
  ASSERT_EQ(sources.views.size(), 9U);
  const int64_t estimate = EstimateCompensationTokens(request_, sources);
  EXPECT_LE(estimate, kSelectionTokens);
  EXPECT_GT(estimate, kSelectionTokens / 2);
  const int64_t tokens = Read(sources).tokens();
  EXPECT_GT(tokens, kSelectionTokens / 2);
  EXPECT_LT(tokens, kSelectionTokens + 9 * kDocumentTokens);
}

// A small dimension is all taken, and leaves its share to a large one.
TEST_F(CompensationTextTest, TakesMoreOfALargeViewWhereAnotherIsSmall) {
  stores_.Add({{"domain", "law"}}, 20, "law");
  stores_.Add({{"language", "en"}}, 4000, "english");
  const ResolvedSources sources = Resolve();
  EXPECT_NEAR(static_cast<double>(EstimateCompensationTokens(request_, sources)),
              static_cast<double>(kSelectionTokens), 2);
  const CompensationText text = Read(sources);
  EXPECT_GT(text.tokens(), 3 * kSelectionTokens / 4);
  const Weights sum = WeightsOf(text);
  EXPECT_NEAR(sum.first + sum.others, 1, 1e-4);
}

TEST_F(CompensationTextTest, TakesASampleOfGeneralText) {
  stores_.Add({{"language", "en"}}, 4, "english");
  stores_.Add({{"domain", "law"}}, 4, "law");
  const CorpusInfo large = stores_.Add({{"domain", "all"}}, 4000, "everything there is");
  ResolvedSources sources = Resolve();
  sources.views.push_back({.corpora = {large}, .weight = 0.1});
  sources.general = true;
  const int64_t selection = Read(Resolve()).tokens();
  EXPECT_GT(Read(sources).tokens(), kGeneralTokens / 2);
  EXPECT_LE(Read(sources).tokens(), kGeneralTokens + selection + kDocumentTokens);
}

// Each has more text than its share, so some stand for the others.
TEST_F(CompensationTextTest, TakesNoMoreOfManySmallCorporaThanOfOneLarge) {
  stores_.Add({{"language", "en"}}, 4, "english");
  stores_.Add({{"domain", "law"}}, 4, "law");
  ResolvedSources sources = Resolve();
  const int64_t selection = Read(sources).tokens();
  ResolvedView general = {.corpora = {}, .weight = 0.5};
  for (int i = 0; i < 400; ++i) {
    general.corpora.push_back(stores_.Add({{"domain", "all"}}, 2, StrCat("theme ", i)));
  }
  std::sort(general.corpora.begin(), general.corpora.end(),
            [](const CorpusInfo& a, const CorpusInfo& b) { return a.digest < b.digest; });
  sources.views.push_back(general);
  sources.general = true;
  const CompensationText text = Read(sources);
  EXPECT_GT(text.tokens(), kGeneralTokens / 2);
  EXPECT_LE(text.tokens(), kGeneralTokens + selection + 3 * kDocumentTokens);
  // What was left out does not make general text count less.
  const Weights sum = WeightsOf(text);
  EXPECT_NEAR(sum.first + sum.others, 1.5, 1e-4);
}

// What judges is not what was learnt from.
TEST_F(CompensationTextTest, TakesADocumentOfSeveralCorporaOnce) {
  stores_.Add({{"language", "en"}}, 20, "english");
  stores_.Add({{"domain", "law"}}, 30, "english");  // the same twenty, and ten more
  const CompensationText text = Read(Resolve());
  std::set<std::vector<int32_t>> documents;
  int64_t count = 0;
  for (const auto* part : {&text.calibration, &text.held_out}) {
    for (const WeightedBatch& batch : *part) {
      const std::vector<int64_t>& offsets = batch.batch.offsets;
      for (size_t i = 0; i + 1 < offsets.size(); ++i, ++count) {
        documents.insert(
            {batch.batch.ids.begin() + offsets[i], batch.batch.ids.begin() + offsets[i + 1]});
      }
    }
  }
  EXPECT_EQ(count, 30);
  EXPECT_EQ(documents.size(), 30U);
}

}  // namespace
}  // namespace secateur
