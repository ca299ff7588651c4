// A super weight planted in a tiny model: one entry of down_proj, of a neuron that relevance would
// remove, so large that the neuron writes more than a tenth of the residual stream's largest
// coordinate at some token.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>

#include "server/base/errors.h"
#include "server/model/compute_threads.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/compensate_expert.h"
#include "server/pipeline/dimension_view.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr size_t kLayer = 1;
constexpr int64_t kWidth = 32;      // of 128
constexpr double kWritten = 0.105;  // of the residual stream's largest coordinate

class ProtectedTest : public testing::Test {
 protected:
  ProtectedTest() {
    SetComputeThreads(1);  // tests share the machine
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_mha"), folder_.path()));
    Load();
    corpus_ = stores_.Add({{"language", "en"}}, 12, "english");
    request_.budget = Budget(Width{kWidth});
    Plant();
    Load();
  }

  void Load() {
    const auto folder = ModelFolder::Open(folder_.path());
    EXPECT_OK(folder);
    RunContext context;
    auto model = ResidentModel::Load("tiny", *folder, Device{}, context);
    EXPECT_OK(model);
    model_ = *std::move(model);
    EXPECT_OK(model_->WaitForDigest(context));
  }

  Profile MakeProfile() {
    RunContext context;
    const auto built =
        BuildProfiles(*model_, {corpus_}, {.max_document_tokens = 512}, stores_.all(), context);
    EXPECT_OK(built);
    return stores_.profiles.Read(built->profiles[0].id()).value();
  }

  // Takes the neuron that stays least relevant when its largest entry makes it write kWritten.
  void Plant() {
    const LayerStatistics sums = MakeProfile().layers[kLayer];
    const auto factor = [&](size_t k) {
      return kWritten * static_cast<double>(sums.residual_peak) / static_cast<double>(sums.peak[k]);
    };
    const auto relevance = [&](size_t k) {
      return factor(k) * factor(k) * static_cast<double>(sums.normalized[k]);
    };
    size_t best = 0;
    for (size_t k = 1; k < sums.peak.size(); ++k) {
      EXPECT_GT(factor(k), 1);  // nothing is protected before
      if (relevance(k) < relevance(best)) best = k;
    }
    channel_ = static_cast<int32_t>(best);
    Enlarge("model.layers.1.mlp.down_proj.weight", factor(best));
  }

  // Multiplies the largest entry of the channel's column, in the file.
  void Enlarge(const std::string& tensor, double factor) {
    const TensorView view = *model_->folder().tensors().Find(tensor);
    const auto* values = reinterpret_cast<const float*>(view.bytes.data());
    const auto columns = static_cast<size_t>(view.shape[1]);
    auto largest = static_cast<size_t>(channel_);
    for (size_t i = largest; i < static_cast<size_t>(view.shape[0]) * columns; i += columns) {
      if (std::abs(values[i]) > std::abs(values[largest])) largest = i;
    }
    const auto value = static_cast<float>(factor * static_cast<double>(values[largest]));
    const std::string column(view.bytes.substr(0, columns * sizeof(float)));
    const std::string path = folder_.path() + "/model.safetensors";
    std::ifstream in(path, std::ios::binary);
    std::string file{std::istreambuf_iterator<char>(in), {}};
    const size_t begin = file.find(column);
    ASSERT_NE(begin, std::string::npos);
    std::memcpy(file.data() + begin + largest * sizeof(float), &value, sizeof value);
    std::filesystem::remove(path);  // the resident model keeps what it has mapped
    std::ofstream(path, std::ios::binary) << file;
  }

  ComposedRequest Compose() {
    const auto sources = ResolveSources(request_, stores_.corpora);
    EXPECT_OK(sources);
    auto composed = ComposeRequest(*model_, request_, *sources, stores_.all());
    EXPECT_OK(composed);
    return *std::move(composed);
  }

  // As if nothing were protected.
  static ComposedRequest Unprotected(ComposedRequest composed) {
    for (size_t layer = 0; layer < composed.order.layers.size(); ++layer) {
      for (const uint16_t channel : composed.order.protected_channels[layer]) {
        composed.order.layers[layer][channel] &= 0x7FFF'FFFFu;
      }
      composed.order.protected_channels[layer].clear();
    }
    return composed;
  }

  PlannedExpert Plan(const ComposedRequest& composed) {
    auto planned = PlanSize(*model_, request_, composed, request_.budget);
    EXPECT_OK(planned);
    return *std::move(planned);
  }

  std::vector<int32_t> KeptBySecondOrder(const ComposedRequest& composed) {
    RunContext context;
    const auto cut =
        CompensateExpert(*model_, request_, composed, Plan(composed), stores_.all(), context);
    EXPECT_OK(cut);
    return cut->cut.mask.kept[kLayer];
  }

  const TempDir folder_;
  std::shared_ptr<ResidentModel> model_;
  TestStores stores_;
  CorpusInfo corpus_;
  ExpertRequest request_ = RequestFor({{"language", {"en"}, 1}}, RelevanceSource::kCell);
  int32_t channel_ = 0;
};

TEST_F(ProtectedTest, StaysThoughRelevanceWouldRemoveIt) {
  const Profile profile = MakeProfile();
  EXPECT_TRUE(profile.layers[kLayer].IsProtected(static_cast<size_t>(channel_)));
  const ComposedRequest composed = Compose();
  const PlannedExpert planned = Plan(composed);
  EXPECT_THAT(planned.mask.kept[kLayer], Contains(channel_));
  EXPECT_EQ(planned.protected_counts[kLayer], 1);
  EXPECT_THAT(Plan(Unprotected(composed)).mask.kept[kLayer], Not(Contains(channel_)));
}

TEST_F(ProtectedTest, StaysInTheOrderOfSecondMoments) {
  request_.second_order = true;
  request_.compensation = Compensation::kLeastSquares;
  MakeProfile();
  const ComposedRequest composed = Compose();
  for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
    request_.shape = shape;
    EXPECT_THAT(KeptBySecondOrder(composed), Contains(channel_));
  }
  request_.shape = Shape::kUniform;
  EXPECT_THAT(KeptBySecondOrder(Unprotected(composed)), Not(Contains(channel_)));
}

TEST_F(ProtectedTest, GoesByItsRankWithCusPrun) {
  request_.rule = Rule::kCusPrun;
  MakeProfile();
  const ComposedRequest composed = Compose();
  const std::vector<uint32_t>& keys = composed.order.layers[kLayer];
  const auto rank = std::count_if(keys.begin(), keys.end(), [&](uint32_t key) {
    return key < keys[static_cast<size_t>(channel_)];
  });
  ASSERT_LT(rank, 96);
  const auto keeps = [&](int64_t width) {
    request_.budget = Budget(Width{width});
    const PlannedExpert planned = Plan(composed);
    EXPECT_TRUE(planned.protected_counts.empty());
    return testing::Value(planned.mask.kept[kLayer], Contains(channel_));
  };
  EXPECT_FALSE(keeps(32));
  for (const int64_t width : {64, 96}) EXPECT_EQ(keeps(width), rank >= 128 - width) << width;
}

TEST_F(ProtectedTest, RefusesAWidthThatCannotHoldThem) {
  MakeProfile();
  ComposedRequest composed = Compose();
  composed.order.protected_channels[2].resize(70);
  const auto planned = PlanSize(*model_, request_, composed, request_.budget);
  EXPECT_THAT(planned, StatusIs(absl::StatusCode::kOutOfRange,
                                AllOf(HasSubstr("layer 2 has 70 protected"), HasSubstr("width 32"),
                                      HasSubstr("at least 96"))));
  EXPECT_EQ(NotesOf(planned.status()).reason, "BUDGET_NOT_REACHABLE");
  EXPECT_OK(PlanSize(*model_, request_, composed, Budget(Width{96})));
}

TEST_F(ProtectedTest, AreFoundByAProfileOfThisScoringVersionOnly) {
  RunContext context;
  ASSERT_OK_AND_ASSIGN(ProfileKey key,
                       ProfileKeyFor(*model_, corpus_, {.max_document_tokens = 512}));
  EXPECT_EQ(key.scoring_version, kScoringVersion);
  key.scoring_version = 1;
  ASSERT_OK(stores_.profiles.Put(key, MakeProfile()).status());
  key.scoring_version = kScoringVersion;
  ASSERT_OK(stores_.profiles.Delete(key.id()));
  ASSERT_OK_AND_ASSIGN(
      const BuiltProfiles built,
      BuildProfiles(*model_, {corpus_}, {.max_document_tokens = 512}, stores_.all(), context));
  EXPECT_EQ(built.cached, 0);  // made again
}

}  // namespace
}  // namespace secateur
