// What is made of corpora does not depend on the order in which they came.
#include <map>

#include "server/pipeline/build_expert.h"
#include "server/pipeline/build_profile.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

struct Upload {
  Labels labels;
  int documents;
  std::string theme;
};

// Two dimensions with corpora of their own, a cell of two, and text outside the selection.
const std::vector<Upload>& Uploads() {
  static const auto& uploads = *new std::vector<Upload>{
      {{{"language", "en"}}, 9, "english"},
      {{{"language", "en"}, {"domain", "law"}}, 7, "english law"},
      {{{"domain", "law"}}, 8, "law"},
      {{{"domain", "art"}}, 5, "12345 67890"},
      {{{"language", "en"}, {"domain", "law"}}, 6, "law of england"},
  };
  return uploads;
}

class CorpusOrderTest : public testing::Test {
 protected:
  // The expert of a store of its own, to which the corpora came in `order`; they are profiled in
  // that order, too, so that general text has them all.
  StoredExpert Build(const ExpertRequest& request, const std::vector<size_t>& order) {
    TestStores stores;
    std::vector<CorpusInfo> corpora;
    for (const size_t i : order) {
      stores.clock.Advance(absl::Seconds(1));
      const Upload& upload = Uploads()[i];
      corpora.push_back(stores.Add(upload.labels, upload.documents, upload.theme));
    }
    RunContext context;
    EXPECT_OK(BuildProfiles(*tiny_.model, corpora, {}, stores.all(), context));
    const auto expert = BuildExpert(*tiny_.model, request, {}, stores.all(), context);
    EXPECT_OK(expert);
    return expert.value_or(StoredExpert{});
  }

  void ExpectTheSameInEveryOrder(const ExpertRequest& request) {
    const StoredExpert first = Build(request, {0, 1, 2, 3, 4});
    for (const std::vector<size_t>& order :
         {std::vector<size_t>{4, 3, 2, 1, 0}, std::vector<size_t>{2, 4, 0, 3, 1}}) {
      const StoredExpert again = Build(request, order);
      EXPECT_EQ(again.id, first.id);
      EXPECT_EQ(again.manifest_json, first.manifest_json);
      EXPECT_EQ(DigestsOf(again), DigestsOf(first));
    }
  }

  static std::map<std::string, std::string> DigestsOf(const StoredExpert& expert) {
    std::map<std::string, std::string> digests;
    for (const ArtifactFile& file : expert.files) digests[file.name] = file.digest.Hex();
    EXPECT_TRUE(digests.contains("model.safetensors"));
    return digests;
  }

  const TinyResident tiny_;
  ExpertRequest request_ = RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 3}});
};

TEST_F(CorpusOrderTest, ChangesNothingOfAPlainExpert) {
  for (const RelevanceSource source :
       {RelevanceSource::kCell, RelevanceSource::kCompose, RelevanceSource::kBlend}) {
    request_.source = source;
    request_.general_weight = 0.1;
    ExpectTheSameInEveryOrder(request_);
  }
}

TEST_F(CorpusOrderTest, ChangesNothingOfTheStrictSets) {
  request_.rule = Rule::kCusPrun;
  request_.source = RelevanceSource::kCompose;
  ExpectTheSameInEveryOrder(request_);
  request_.budget = Sigma{0.3};
  request_.shape = Shape::kMasked;
  request_.attention_channels = true;
  ExpectTheSameInEveryOrder(request_);
}

TEST_F(CorpusOrderTest, ChangesNothingOfGroupsAndOfTheVocabulary) {
  request_.source = RelevanceSource::kCompose;
  request_.kv_head_groups = true;
  request_.kept_kv_head_groups = 1;
  request_.vocabulary = true;
  ExpectTheSameInEveryOrder(request_);
}

TEST_F(CorpusOrderTest, ChangesNothingOfACompensatedExpert) {
  request_.second_order = true;
  request_.general_weight = 0.1;
  request_.source = RelevanceSource::kCompose;
  for (const Compensation compensation : {Compensation::kLeastSquares, Compensation::kSequential}) {
    request_.compensation = compensation;
    ExpectTheSameInEveryOrder(request_);
  }
}

}  // namespace
}  // namespace secateur
