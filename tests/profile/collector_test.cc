#include "server/profile/collector.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "server/profile/document_half.h"
#include "server/profile/scorer.h"
#include "tests/profile/random_profile.h"
#include "tests/profile/tiny_documents.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Profile Collect(const Transformer& model, const std::vector<PackedBatch>& blocks,
                const CollectorOptions& options = {}) {
  const auto collector = ProfileCollector::Create(model, options).value();
  RunContext context;
  for (const PackedBatch& block : blocks) EXPECT_OK(collector->Add(block, context));
  return collector->profile();
}

// Copies what every layer shows.
class RecordingTap final : public ActivationTap {
 public:
  absl::Status OnFfn(const PackedBatch&, const FfnActivation& activation) override {
    layers.push_back({.layer = activation.layer,
                      .neurons = activation.neurons.clone(),
                      .output = activation.output.clone(),
                      .residual = activation.residual.clone()});
    return absl::OkStatus();
  }
  std::vector<FfnActivation> layers;
};

std::vector<FfnActivation> Record(const Transformer& model, const PackedBatch& block) {
  RecordingTap tap;
  RunContext context;
  EXPECT_OK(model.Forward(block, context, &tap).status());
  return tap.layers;
}

std::vector<float> ToFloats(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kFloat).contiguous();
  return {values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()};
}

// The statistics of tokens [begin, end) straight from the definitions, in float64.
DocumentScores SlowScores(const Transformer& model, const FfnActivation& tapped, int64_t begin,
                          int64_t end) {
  const ModelConfig& config = model.config();
  const LayerWeights& weights = model.layer(tapped.layer);
  const at::Tensor a = tapped.neurons.slice(0, begin, end).to(at::kDouble);
  const at::Tensor o = tapped.output.slice(0, begin, end).to(at::kDouble);
  const at::Tensor h = tapped.residual.slice(0, begin, end).to(at::kDouble);
  const at::Tensor w = weights.down.weight.to(at::kDouble);
  at::Tensor omega = 1 / h.square().sum(1);
  at::Tensor gained = w;
  at::Tensor scale = at::ones({end - begin, 1}, at::kDouble);
  if (config.post_norms) {
    omega = omega * static_cast<double>(config.hidden_size) / o.square().sum(1);
    scale = (static_cast<double>(config.hidden_size) / o.square().sum(1, true)).sqrt();
    gained = w * (weights.post_ffn_norm.to(at::kDouble) + config.norm_offset).unsqueeze(1);
  }
  const at::Tensor squares = a.square();
  return {.relative = ToFloats(gained.square().sum(0) * (squares * omega.unsqueeze(1)).mean(0)),
          .paper = ToFloats(w.square().sum(0) * squares.mean(0)),
          .activation = ToFloats(a.mean(0)),
          .peak = ToFloats((a * scale).abs().amax(0) * gained.abs().amax(0)),
          .residual_peak = static_cast<float>(h.abs().max().item<double>())};
}

bool HalfOf(const PackedBatch& block, size_t document) {
  const auto begin = block.ids.begin() + block.offsets[document];
  return IsInHalf({begin, block.ids.begin() + block.offsets[document + 1]});
}

Profile SlowProfile(const Transformer& model, const PackedBatch& block) {
  const ModelConfig& config = model.config();
  Profile profile =
      Profile::Empty(config.num_layers, config.intermediate_size, config.num_kv_heads).value();
  for (const FfnActivation& tapped : Record(model, block)) {
    for (size_t i = 0; i + 1 < block.offsets.size(); ++i) {
      DocumentScores scores = SlowScores(model, tapped, block.offsets[i], block.offsets[i + 1]);
      scores.in_half = HalfOf(block, i);
      EXPECT_OK(AddDocument(scores, static_cast<int64_t>(i),
                            profile.layers[static_cast<size_t>(tapped.layer)]));
    }
  }
  return profile;
}

template <class T>
void ExpectSumsNear(const std::vector<T>& found, const std::vector<T>& expected, double relative,
                    double absolute) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t k = 0; k < found.size(); ++k) {
    const auto value = static_cast<double>(expected[k]);
    ASSERT_NEAR(static_cast<double>(found[k]), value, relative * std::abs(value) + absolute)
        << "entry " << k;
  }
}

class Collector : public testing::TestWithParam<std::string> {};

TEST_P(Collector, AgreesWithASlowComputationFromWhatTheLayersShow) {
  const auto model = LoadTiny(GetParam());
  const PackedBatch block = Pack(RandomDocuments({1, 7, 64, 65, 130}, 1));
  const Profile found = Collect(*model, {block});
  const Profile expected = SlowProfile(*model, block);
  EXPECT_EQ(found.documents, 5);
  EXPECT_EQ(found.tokens, 267);
  int64_t in_half = 0;
  for (size_t i = 0; i < 5; ++i) in_half += HalfOf(block, i) ? 1 : 0;
  EXPECT_EQ(found.half_documents, in_half);
  for (size_t l = 0; l < found.layers.size(); ++l) {
    SCOPED_TRACE(testing::Message() << "layer " << l);
    const LayerStatistics& f = found.layers[l];
    const LayerStatistics& e = expected.layers[l];
    ExpectSumsNear(f.normalized, e.normalized, 1e-5, 5);
    ExpectSumsNear(f.paper_normalized, e.paper_normalized, 1e-5, 5);
    ExpectSumsNear(f.score, e.score, 1e-5, 5);
    ExpectSumsNear(f.log_score, e.log_score, 0, 5 * 1e-5 / kLogUnit);
    ExpectSumsNear(f.activation, e.activation, 1e-5, 1e-6 / kActivationUnit);
    ExpectSumsNear(f.peak, e.peak, 1e-5, 0);
    ExpectSumsNear(f.half_normalized, e.half_normalized, 1e-5, 5);
    EXPECT_NEAR(f.residual_peak, e.residual_peak, 1e-6 * e.residual_peak);
    // Scores that are nearly equal may change places.
    ExpectSumsNear(f.rank, e.rank, 0, 1);
    ExpectSumsNear(f.top_ranks, e.top_ranks, 0, 1);
  }
}

// What the collector adds up, by the same functions.
std::vector<TokenSums> SumsOf(const Transformer& model, const PackedBatch& block,
                              const FfnActivation& tapped) {
  return SumDocuments(tapped.neurons, TokenWeights(tapped, model.config().post_norms),
                      block.offsets);
}

bool SameBits(const TokenSums& a, const TokenSums& b) {
  return a.weighted == b.weighted && a.squared == b.squared && a.plain == b.plain &&
         a.peak == b.peak;
}

TEST_P(Collector, LetsNoDocumentInfluenceAnother) {
  const auto model = LoadTiny(GetParam());
  const auto documents = RandomDocuments({40, 70, 33}, 1);
  auto changed = documents;
  changed[1] = RandomDocuments({70}, 2)[0];
  const PackedBatch block = Pack(documents);
  const PackedBatch other = Pack(changed);
  const auto first = Record(*model, block);
  const auto second = Record(*model, other);
  for (size_t l = 0; l < first.size(); ++l) {
    const auto a = SumsOf(*model, block, first[l]);
    const auto b = SumsOf(*model, other, second[l]);
    EXPECT_TRUE(SameBits(a[0], b[0])) << "layer " << l;
    EXPECT_FALSE(SameBits(a[1], b[1])) << "layer " << l;
    EXPECT_TRUE(SameBits(a[2], b[2])) << "layer " << l;
  }
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST_P(Collector, GivesADocumentTheSameStatisticsAloneAndPacked) {
  const auto model = LoadTiny(GetParam());
  const auto documents = RandomDocuments({40, 1, 97, 12}, 1);
  const PackedBatch block = Pack(documents);
  const auto packed = Record(*model, block);
  for (size_t i = 0; i < documents.size(); ++i) {
    const PackedBatch single = Pack({documents[i]});
    const auto alone = Record(*model, single);
    for (size_t l = 0; l < packed.size(); ++l) {
      const TokenSums a = SumsOf(*model, block, packed[l])[i];
      const TokenSums b = SumsOf(*model, single, alone[l])[0];
      // A neuron that hardly acts has the rounding error of the larger terms it is the sum of.
      for (auto values : {&TokenSums::weighted, &TokenSums::squared, &TokenSums::peak}) {
        ExpectSumsNear(a.*values, b.*values, 1e-5, 1e-5 * Mean(b.*values));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EachModel, Collector, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

TEST(ProfileCollector, GivesTheSameBytesForBlocksApartAndMerged) {
  const auto model = LoadTiny("gemma3_pattern");
  ProfileKey key = AnyKey();
  key.attention = true;
  const auto collect = [&](const std::vector<PackedBatch>& blocks) {
    return Collect(*model, blocks, {.attention = true});
  };
  std::vector<PackedBatch> blocks;
  for (uint64_t i = 0; i < 6; ++i) blocks.push_back(Pack(RandomDocuments({20, 33, 5}, i)));
  const std::string expected = FileOf(collect(blocks), key);
  std::mt19937_64 random(9);
  for (int round = 0; round < 4; ++round) {
    std::shuffle(blocks.begin(), blocks.end(), random);
    Profile merged = collect({blocks[0], blocks[1]});
    ASSERT_OK(merged.Merge(collect({blocks[2]})));
    ASSERT_OK(merged.Merge(collect({blocks[3], blocks[4], blocks[5]})));
    EXPECT_EQ(FileOf(merged, key), expected);
  }
}

TEST(ProfileCollector, KnowsTheSameOfNeuronsWithAttentionAsWithout) {
  for (const char* name : {"llama_gqa", "gemma3"}) {
    const auto model = LoadTiny(name);
    const PackedBatch block = Pack(RandomDocuments({20, 33, 5}, 7));
    Profile with = Collect(*model, {block}, {.attention = true});
    EXPECT_FALSE(with.attention.empty());
    with.attention = {};
    EXPECT_EQ(FileOf(with), FileOf(Collect(*model, {block})));
  }
}

// Both halves of a merge, whatever the order, and so each other's rest.
TEST(ProfileCollector, PutsADocumentIntoTheSameHalfInAnyBlock) {
  const auto model = LoadTiny("llama_gqa");
  const auto documents = RandomDocuments(std::vector<int64_t>(24, 9), 3);
  const Profile whole = Collect(*model, {Pack(documents)});
  EXPECT_GT(whole.half_documents, 0);
  EXPECT_LT(whole.half_documents, 24);
  std::vector<Tokens> in, out;
  for (const Tokens& document : documents) (IsInHalf(document) ? in : out).push_back(document);
  EXPECT_EQ(whole.half_documents, std::ssize(in));
  const Profile first = Collect(*model, {Pack(in)}), second = Collect(*model, {Pack(out)});
  EXPECT_EQ(second.half_documents, 0);
  for (size_t l = 0; l < whole.layers.size(); ++l) {
    EXPECT_EQ(first.layers[l].half_normalized, first.layers[l].normalized);
    EXPECT_THAT(second.layers[l].half_normalized, testing::Each(0U));
    // Activations in another block differ by rounding.
    ExpectSumsNear(whole.layers[l].half_normalized, first.layers[l].normalized, 1e-4, 24);
  }
}

TEST(ProfileCollector, AddsBlocksOfManyShortDocuments) {
  const auto model = LoadTiny("llama_gqa");
  const PackedBatch block = Pack(RandomDocuments(std::vector<int64_t>(70, 3), 1));
  const Profile found = Collect(*model, {block});
  const Profile expected = SlowProfile(*model, block);
  EXPECT_EQ(found.documents, 70);
  EXPECT_EQ(found.tokens, 210);
  for (size_t l = 0; l < found.layers.size(); ++l) {
    ExpectSumsNear(found.layers[l].normalized, expected.layers[l].normalized, 1e-5, 70);
    ExpectSumsNear(found.layers[l].rank, expected.layers[l].rank, 0, 3);
  }
}

TEST(ProfileCollector, StopsWhenCancelledAndIsSpentThen) {
  const auto model = LoadTiny("llama_mha");
  const auto collector = ProfileCollector::Create(*model).value();
  const PackedBatch block = Pack(RandomDocuments({5, 9}, 1));
  RunContext cancelled;
  cancelled.Cancel();
  EXPECT_THAT(collector->Add(block, cancelled), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(collector->profile().documents, 0);
  RunContext context;
  EXPECT_THAT(collector->Add(block, context),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("make a new one")));
}

TEST(ProfileCollector, RefusesBlocksThatTheModelRefuses) {
  const auto model = LoadTiny("llama_mha");
  RunContext context;
  const std::vector<PackedBatch> blocks = {{},
                                           {.ids = {}, .offsets = {0}},
                                           {.ids = {1, 2}, .offsets = {0, 2, 2}},
                                           {.ids = {1, 9999}, .offsets = {0, 2}}};
  for (const PackedBatch& block : blocks) {
    const auto collector = ProfileCollector::Create(*model).value();
    EXPECT_THAT(collector->Add(block, context), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

// Sets entries of a resident weight: what a damaged checkpoint would hold.
void Damage(const at::Tensor& weight, int64_t row, float value) {
  const c10::InferenceMode inference;
  weight.select(0, row).fill_(value);
}

absl::Status CollectFrom(const Transformer& model) {
  RunContext context;
  return ProfileCollector::Create(model).value()->Add(Pack(RandomDocuments({5, 9}, 1)), context);
}

TEST(ProfileCollector, NamesTheLayerAndChannelOfABadActivation) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    for (const char* name : {"llama_mha", "gemma3"}) {
      const auto model = LoadTiny(name);
      Damage(model->layer(1).up.weight, 77, value);
      EXPECT_THAT(CollectFrom(*model),
                  StatusIs(absl::StatusCode::kDataLoss,
                           AllOf(HasSubstr("layer 1"), HasSubstr("channel 77"))));
    }
  }
}

TEST(ProfileCollector, NamesTheLayerSetAndUnitOfABadScoreOfAttention) {
  const auto model = LoadTiny("llama_mha");
  Damage(model->layer(1).value.weight, 7, std::numeric_limits<float>::quiet_NaN());
  const auto collector = ProfileCollector::Create(*model, {.attention = true}).value();
  RunContext context;
  EXPECT_THAT(collector->Add(Pack(RandomDocuments({5, 9}, 1)), context),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("layer 1"), HasSubstr("\"output\", unit 7"))));
}

TEST(ProfileCollector, NamesTheLayerAndGroupOfABadValue) {
  const auto model = LoadTiny("llama_gqa");
  Damage(model->layer(1).value.weight, 7, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(CollectFrom(*model),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("layer 1"), HasSubstr("KV head group 0"))));
}

TEST(ProfileCollector, NamesTheLayerAndTokenOfABadResidualStream) {
  const auto model = LoadTiny("llama_biases");
  Damage(model->layer(2).down.bias, 3, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(CollectFrom(*model), StatusIs(absl::StatusCode::kDataLoss,
                                            AllOf(HasSubstr("layer 2"), HasSubstr("token 0"))));
}

TEST(ProfileCollector, NamesTheLayerAndChannelOfABadWeight) {
  const auto model = LoadTiny("llama_mha");
  {
    const c10::InferenceMode inference;
    at::Tensor down = model->layer(2).down.weight;
    down.select(1, 5).fill_(1e30f);
  }
  EXPECT_THAT(CollectFrom(*model), StatusIs(absl::StatusCode::kDataLoss,
                                            AllOf(HasSubstr("layer 2"), HasSubstr("channel 5"))));
}

}  // namespace
}  // namespace secateur
