#include "server/model/transformer.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/base/status_macros.h"
#include "server/model/next_tokens.h"
#include "server/model/torch_guard.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

using Sequence = std::vector<int32_t>;

Sequence Ids(int64_t length, int64_t salt) {
  Sequence ids;
  for (int64_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<int32_t>((i * i * 37 + salt * 11 + i) % 272));
  }
  return ids;
}

PackedBatch Pack(const std::vector<Sequence>& sequences) {
  PackedBatch batch;
  batch.offsets = {0};
  for (const Sequence& sequence : sequences) {
    batch.ids.insert(batch.ids.end(), sequence.begin(), sequence.end());
    batch.offsets.push_back(batch.tokens());
  }
  return batch;
}

at::Tensor Part(const at::Tensor& hidden, const PackedBatch& batch, size_t sequence) {
  const c10::InferenceMode inference;
  return hidden.slice(0, batch.offsets[sequence], batch.offsets[sequence + 1]);
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  const c10::InferenceMode inference;
  return (a - b).abs().max().item<double>();
}

class EachTinyModel : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(folder_.path()));
    ASSERT_OK_AND_ASSIGN(model_, Transformer::Load(folder, Device{}, context_));
  }
  at::Tensor Forward(const PackedBatch& batch, ActivationTap* tap = nullptr) {
    return model_->Forward(batch, context_, tap).value();
  }

  // What comes next of each sequence of the cache.
  absl::StatusOr<at::Tensor> Continue(const PackedBatch& batch, KvCache& cache) {
    ASSIGN_OR_RETURN(
        const LayerRunner runner,
        LayerRunner::Create(model_->config(), model_->device(), batch, nullptr, &cache));
    ASSIGN_OR_RETURN(at::Tensor hidden, runner.Embed(model_->outer()));
    for (int64_t layer = 0; layer < model_->config().num_layers; ++layer) {
      ASSIGN_OR_RETURN(hidden, runner.Forward(layer, model_->layer(layer), hidden));
    }
    cache.Finish(batch);
    return runner.FinalNorm(model_->outer(), hidden);
  }

  TempDir folder_;
  RunContext context_;
  std::unique_ptr<Transformer> model_;
};

// Past the window of layers that have one.
TEST_P(EachTinyModel, ContinuesSequencesTokenByTokenAsIfTheyRanWhole) {
  const std::vector<Sequence> whole = {Ids(40, 2), Ids(31, 3), Ids(58, 6)};
  const std::vector<size_t> prompts = {21, 12, 39};
  const PackedBatch together = Pack(whole);
  const at::Tensor wanted = Forward(together);
  std::vector<Sequence> begin;
  for (size_t i = 0; i < whole.size(); ++i) {
    begin.push_back({whole[i].begin(), whole[i].begin() + static_cast<ptrdiff_t>(prompts[i])});
  }
  KvCache cache;
  ASSERT_OK(Continue(Pack(begin), cache));
  for (size_t step = 0; step < 19; ++step) {
    std::vector<Sequence> next;
    for (size_t i = 0; i < whole.size(); ++i) next.push_back({whole[i][prompts[i] + step]});
    ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, Continue(Pack(next), cache));
    for (size_t i = 0; i < whole.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      const int64_t at = together.offsets[i] + static_cast<int64_t>(prompts[i] + step);
      EXPECT_LE(Distance(hidden.slice(0, row, row + 1), wanted.slice(0, at, at + 1)), 2e-5)
          << "sequence " << i << ", token " << step;
    }
  }
}

TEST_P(EachTinyModel, GivesASequenceTheSameHiddenStatesAloneAndInABatch) {
  const std::vector<Sequence> sequences = {Ids(1, 1),  Ids(40, 2), Ids(7, 3),
                                           Ids(40, 4), Ids(9, 5),  Ids(130, 6)};
  const PackedBatch together = Pack(sequences);
  const at::Tensor hidden = Forward(together);
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_LE(Distance(Part(hidden, together, i), Forward(Pack({sequences[i]}))), 1e-5) << i;
  }
}

TEST_P(EachTinyModel, NeverLetsOneSequenceTouchAnother) {
  const std::vector<Sequence> one = {Ids(33, 1), Ids(50, 2), Ids(20, 3)};
  const std::vector<Sequence> other = {Ids(33, 7), Ids(50, 2), Ids(20, 9)};
  const at::Tensor a = Forward(Pack(one));
  const at::Tensor b = Forward(Pack(other));
  EXPECT_TRUE(at::equal(Part(a, Pack(one), 1), Part(b, Pack(other), 1)));
  EXPECT_FALSE(at::equal(Part(a, Pack(one), 0), Part(b, Pack(other), 0)));
}

TEST_P(EachTinyModel, NeverLooksAhead) {
  Sequence changed = Ids(60, 1);
  changed.back() = (changed.back() + 1) % 272;
  const at::Tensor a = Forward(Pack({Ids(60, 1)}));
  const at::Tensor b = Forward(Pack({changed}));
  EXPECT_TRUE(at::equal(a.slice(0, 0, 59), b.slice(0, 0, 59)));
  EXPECT_FALSE(at::equal(a.slice(0, 59, 60), b.slice(0, 59, 60)));
}

TEST_P(EachTinyModel, MasksNeuronsAsIfTheirColumnsWereZero) {
  const c10::InferenceMode inference;
  const PackedBatch batch = Pack({Ids(33, 1), Ids(20, 2)});
  ASSERT_OK_AND_ASSIGN(const LayerRunner runner,
                       LayerRunner::Create(model_->config(), Device{}, batch));
  ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, runner.Embed(model_->outer()));
  at::Tensor kept = at::ones({model_->config().intermediate_size});
  kept.slice(0, 0, {}, 3).zero_();
  LayerWeights zeroed = model_->layer(1);
  zeroed.down.weight = zeroed.down.weight * kept;
  ASSERT_OK_AND_ASSIGN(const at::Tensor masked,
                       runner.Forward(1, model_->layer(1), hidden, nullptr, kept));
  ASSERT_OK_AND_ASSIGN(const at::Tensor expected, runner.Forward(1, zeroed, hidden));
  ASSERT_OK_AND_ASSIGN(const at::Tensor dense, runner.Forward(1, model_->layer(1), hidden));
  EXPECT_LE(Distance(masked, expected), 1e-5);
  EXPECT_GT(Distance(masked, dense), 1e-3);
}

TEST_P(EachTinyModel, RunsALayerThatIsNarrowerThanItsConfig) {
  const c10::InferenceMode inference;
  const PackedBatch batch = Pack({Ids(33, 1)});
  ASSERT_OK_AND_ASSIGN(const LayerRunner runner,
                       LayerRunner::Create(model_->config(), Device{}, batch));
  ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, runner.Embed(model_->outer()));
  const int64_t width = 96;
  at::Tensor kept = at::zeros({model_->config().intermediate_size});
  kept.slice(0, 0, width).fill_(1);
  LayerWeights narrow = model_->layer(0);
  for (LinearWeights* linear : {&narrow.gate, &narrow.up}) {
    linear->weight = linear->weight.slice(0, 0, width).contiguous();
    if (linear->bias.defined()) linear->bias = linear->bias.slice(0, 0, width).contiguous();
  }
  narrow.down.weight = narrow.down.weight.slice(1, 0, width).contiguous();
  ASSERT_OK_AND_ASSIGN(const at::Tensor sliced, runner.Forward(0, narrow, hidden));
  ASSERT_OK_AND_ASSIGN(const at::Tensor masked,
                       runner.Forward(0, model_->layer(0), hidden, nullptr, kept));
  EXPECT_LE(Distance(sliced, masked), 1e-5);
}

// Remembers copies of what it was shown.
class RecordingTap final : public ActivationTap {
 public:
  absl::Status OnFfn(const PackedBatch& batch, const FfnActivation& activation) override {
    return GuardTorch([&] {
      tokens.push_back(batch.tokens());
      seen.push_back({activation.layer, activation.neurons.clone(), activation.output.clone(),
                      activation.residual.clone()});
      return absl::OkStatus();
    });
  }
  std::vector<int64_t> tokens;
  std::vector<FfnActivation> seen;
};

TEST_P(EachTinyModel, ShowsTheTapEveryLayerInOrderWithoutChangingTheResult) {
  const c10::InferenceMode inference;
  const ModelConfig& config = model_->config();
  const PackedBatch batch = Pack({Ids(33, 1), Ids(12, 2)});
  RecordingTap tap;
  const at::Tensor hidden = Forward(batch, &tap);
  EXPECT_TRUE(at::equal(hidden, Forward(batch)));  // and the same bits again
  ASSERT_THAT(tap.seen, SizeIs(config.num_layers));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const FfnActivation& seen = tap.seen[static_cast<size_t>(layer)];
    const LayerWeights& weights = model_->layer(layer);
    EXPECT_EQ(seen.layer, layer);
    EXPECT_EQ(tap.tokens[static_cast<size_t>(layer)], 45);
    EXPECT_THAT(seen.neurons.sizes(), ElementsAre(45, config.intermediate_size));
    at::Tensor written = seen.neurons.mm(weights.down.weight.t());
    if (weights.down.bias.defined()) written = written + weights.down.bias;
    EXPECT_LE(Distance(seen.output, written), 1e-4);
    EXPECT_THAT(seen.residual.sizes(), ElementsAre(45, config.hidden_size));
  }
  ASSERT_OK_AND_ASSIGN(const LayerRunner runner, LayerRunner::Create(config, Device{}, batch));
  ASSERT_OK_AND_ASSIGN(const at::Tensor last,
                       runner.FinalNorm(model_->outer(), tap.seen.back().residual));
  EXPECT_TRUE(at::equal(last, hidden));
}

TEST_P(EachTinyModel, AgreesWithADirectSoftmaxOnTheNllOfEachToken) {
  const c10::InferenceMode inference;
  const std::vector<Sequence> sequences = {Ids(33, 1), Ids(1, 2), Ids(2, 3), Ids(40, 4)};
  const PackedBatch batch = Pack(sequences);
  const at::Tensor hidden = Forward(batch);
  ASSERT_OK_AND_ASSIGN(const std::vector<double> nll,
                       TokenNll(model_->config(), model_->outer(), hidden, batch));
  ASSERT_THAT(nll, SizeIs(32 + 0 + 1 + 39));
  ASSERT_OK_AND_ASSIGN(const at::Tensor logits, model_->Logits(hidden));
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  const at::Tensor expected = -logits.to(at::kDouble).log_softmax(1);
  size_t next = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (size_t position = 0; position + 1 < sequences[i].size(); ++position) {
      const int64_t row = batch.offsets[i] + static_cast<int64_t>(position);
      EXPECT_NEAR(nll[next++], expected[row][sequences[i][position + 1]].item<double>(), 1e-4);
    }
  }
}

TEST_P(EachTinyModel, AddsUpWhatItExpectsToComeNext) {
  const c10::InferenceMode inference;
  const PackedBatch first = Pack({Ids(33, 1), Ids(1, 2)});
  const PackedBatch second = Pack({Ids(150, 3)});  // several parts
  std::vector<double> sum;
  at::Tensor expected = at::zeros({model_->config().vocabulary_size}, at::kDouble);
  for (const PackedBatch& batch : {first, second}) {
    ASSERT_OK(AddNextTokenProbabilities(*model_, batch, context_, sum));
    expected += model_->Logits(Forward(batch)).value().to(at::kDouble).softmax(1).sum(0);
  }
  ASSERT_THAT(sum, SizeIs(static_cast<size_t>(model_->config().vocabulary_size)));
  EXPECT_NEAR(std::accumulate(sum.begin(), sum.end(), 0.0), 33 + 1 + 150, 1e-3);
  for (size_t row = 0; row < sum.size(); ++row) {
    EXPECT_NEAR(sum[row], expected[static_cast<int64_t>(row)].item<double>(), 1e-4) << row;
  }
  const std::vector<double> before = sum;
  context_.Cancel();
  EXPECT_THAT(AddNextTokenProbabilities(*model_, first, context_, sum),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(sum, before);
}

TEST_P(EachTinyModel, GivesTheEndsOfSequencesAloneWhenAskedTo) {
  const c10::InferenceMode inference;
  const PackedBatch batch = Pack({Ids(33, 1), Ids(1, 2), Ids(2, 3), Ids(40, 4)});
  const at::Tensor hidden = Forward(batch);
  ASSERT_OK_AND_ASSIGN(const std::vector<double> all,
                       TokenNll(model_->config(), model_->outer(), hidden, batch));
  ASSERT_OK_AND_ASSIGN(const std::vector<double> ends,
                       TokenNll(model_->config(), model_->outer(), hidden, batch, {31, 1, 5, 39}));
  // Other rows in one product round differently.
  ASSERT_THAT(ends, SizeIs(2 + 0 + 0 + 1));
  EXPECT_NEAR(ends[0], all[30], 1e-5);
  EXPECT_NEAR(ends[1], all[31], 1e-5);
  EXPECT_NEAR(ends[2], all.back(), 1e-5);
  for (const std::vector<int64_t>& starts : {std::vector<int64_t>{1, 1, 1}, {1, 1, 1, 0}}) {
    EXPECT_THAT(TokenNll(model_->config(), model_->outer(), hidden, batch, starts),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 sequences")));
  }
}

std::vector<std::string> TinyNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Families, EachTinyModel, testing::ValuesIn(TinyNames()),
                         [](const auto& test) { return test.param; });

class Gemma : public EachTinyModel {};
INSTANTIATE_TEST_SUITE_P(Families, Gemma, testing::Values("gemma3"),
                         [](const auto& test) { return test.param; });

TEST_P(Gemma, SlidingLayersSeeExactlyTheirWindow) {
  const c10::InferenceMode inference;
  // One sliding layer: position p depends on p - 7 and not on p - 8.
  Sequence ids = Ids(30, 1);
  const auto forward = [&] {
    const PackedBatch batch = Pack({ids});
    const LayerRunner runner = LayerRunner::Create(model_->config(), Device{}, batch).value();
    return runner.Forward(0, model_->layer(0), runner.Embed(model_->outer()).value()).value();
  };
  const at::Tensor before = forward();
  ids[10] = (ids[10] + 1) % 272;
  const at::Tensor after = forward();
  for (int64_t position = 0; position < 30; ++position) {
    EXPECT_EQ(at::equal(before[position], after[position]), position < 10 || position >= 18)
        << position;
  }
}

class Llama : public EachTinyModel {};
INSTANTIATE_TEST_SUITE_P(Families, Llama, testing::Values("llama_gqa"),
                         [](const auto& test) { return test.param; });

TEST_P(Llama, RefusesBatchesThatItCannotRun) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto run = [&](const PackedBatch& batch) {
    return model_->Forward(batch, context_).status();
  };
  Sequence outside = Ids(5, 1);
  outside[3] = 272;
  EXPECT_THAT(run(Pack({Ids(4, 1), outside})),
              StatusIs(kInvalid,
                       AllOf(HasSubstr("sequence 1"), HasSubstr("272"), HasSubstr("position 3"))));
  outside[3] = -1;
  EXPECT_THAT(run(Pack({outside})), StatusIs(kInvalid, HasSubstr("-1")));
  EXPECT_THAT(run(Pack({Ids(4, 1), {}, Ids(4, 2)})),
              StatusIs(kInvalid, AllOf(HasSubstr("sequence 1"), HasSubstr("empty"))));
  EXPECT_THAT(run(Pack({Ids(1025, 1)})),
              StatusIs(kInvalid, AllOf(HasSubstr("1025"), HasSubstr("1024"))));
  EXPECT_OK(run(Pack({Ids(1024, 1)})));
  EXPECT_THAT(run(PackedBatch{}), StatusIs(kInvalid, HasSubstr("offsets")));
  EXPECT_THAT(run({.ids = {1, 2}, .offsets = {0, 1}}), StatusIs(kInvalid, HasSubstr("offsets")));
  EXPECT_THAT(run({.ids = {1, 2}, .offsets = {0, 7, 2}}), StatusIs(kInvalid, HasSubstr("0 to 7")));
  EXPECT_THAT(run({.ids = {1, 2}, .offsets = {0, -3, 2}}),
              StatusIs(kInvalid, HasSubstr("0 to -3")));
}

TEST_P(Llama, RefusesWhatDoesNotContinueTheCache) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  KvCache cache;
  ASSERT_OK(Continue(Pack({Ids(1023, 1), Ids(3, 2)}), cache));
  EXPECT_THAT(Continue(Pack({Ids(1, 1)}), cache), StatusIs(kInvalid, HasSubstr("continue 2")));
  EXPECT_THAT(Continue(Pack({Ids(2, 1), Ids(1, 2)}), cache),
              StatusIs(kInvalid, HasSubstr("each takes one token")));
  ASSERT_OK(Continue(Pack({Ids(1, 1), Ids(1, 2)}), cache));
  EXPECT_THAT(Continue(Pack({Ids(1, 1), Ids(1, 2)}), cache),
              StatusIs(kInvalid, AllOf(HasSubstr("sequence 0"), HasSubstr("1025"))));
}

TEST_P(Llama, StopsWhenCancelled) {
  context_.Cancel();
  EXPECT_THAT(model_->Forward(Pack({Ids(4, 1)}), context_), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(Transformer::Load(ModelFolder::Open(folder_.path()).value(), Device{}, context_),
              StatusIs(absl::StatusCode::kCancelled));
}

class FailingTap final : public ActivationTap {
 public:
  absl::Status OnFfn(const PackedBatch&, const FfnActivation& activation) override {
    calls += 1;
    return activation.layer == 1 ? absl::DataLossError("tap") : absl::OkStatus();
  }
  int calls = 0;
};

TEST_P(Llama, EndsWithTheErrorOfTheTap) {
  FailingTap tap;
  EXPECT_THAT(model_->Forward(Pack({Ids(4, 1)}), context_, &tap),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tap")));
  EXPECT_EQ(tap.calls, 2);
}

TEST_P(Llama, ReportsTheBytesItLoads) {
  std::vector<Progress> reports;
  RunContext context([&](const Progress& progress) { reports.push_back(progress); });
  ASSERT_OK_AND_ASSIGN(
      const auto model,
      Transformer::Load(ModelFolder::Open(folder_.path()).value(), Device{}, context));
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().phase, "load");
  EXPECT_EQ(reports.back().unit, "bytes");
  EXPECT_EQ(reports.back().done, reports.back().total);
  EXPECT_EQ(reports.back().total, 4 * CountParameters(model->config()));
  EXPECT_EQ(model->resident_bytes(), reports.back().total);
}

TEST_P(Llama, RefusesHiddenStatesThatDoNotFitTheBatch) {
  const c10::InferenceMode inference;
  EXPECT_THAT(TokenNll(model_->config(), model_->outer(), at::zeros({3, 64}), Pack({Ids(4, 1)})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 tokens")));
}

}  // namespace
}  // namespace secateur
