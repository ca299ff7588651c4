#include "server/compensate/layer_sweep.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/torch_guard.h"
#include "tests/artifact/expert_models.h"
#include "tests/compensate/random_text.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

// Counted in batches, which are what takes the time.
TEST(LayerSweep, LooksAtNoFurtherBatchAfterACancel) {
  const TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder.path()));
  const std::unique_ptr<Transformer> base = LoadModel(folder.path());
  const std::vector<WeightedBatch> text = RandomText(base->config(), 5, 1);
  for (const bool observe : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const auto sweep, LayerSweep::Create(*base, text));
    RunContext context;
    int batches = 0;
    const LayerSweep::Observer observer = [&](const WeightedBatch&, const FfnActivation&) {
      if (++batches == 3) context.Cancel();
      return absl::OkStatus();
    };
    EXPECT_THAT(observe ? sweep->Observe(0, base->layer(0), context, observer)
                        : sweep->Advance(0, base->layer(0), context, observer),
                StatusIs(absl::StatusCode::kCancelled));
    EXPECT_EQ(batches, 3);
  }
}

class LayerSweepOf : public testing::TestWithParam<std::string> {};

// Observe() with other weights of down_proj shows what Advance() with those would show, and leaves
// no trace in what Finish() makes. Batches share their working memory.
TEST_P(LayerSweepOf, ObservesAndFinishesWhatItAdvances) {
  const TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder.path()));
  const std::unique_ptr<Transformer> base = LoadModel(folder.path());
  const std::vector<WeightedBatch> text = RandomText(base->config(), 3, 1);
  RunContext context;
  LayerWeights halved = base->layer(0);
  ASSERT_OK(GuardTorch([&] {
    halved.down.weight = halved.down.weight * 0.5;
    return absl::OkStatus();
  }));
  std::vector<at::Tensor> shown;
  const LayerSweep::Observer show = [&](const WeightedBatch&, const FfnActivation& activation) {
    shown.push_back(activation.residual.clone());
    return absl::OkStatus();
  };
  ASSERT_OK_AND_ASSIGN(const auto of_halved, LayerSweep::Create(*base, text));
  ASSERT_OK(of_halved->Advance(0, halved, context, show));
  ASSERT_OK_AND_ASSIGN(const auto whole, LayerSweep::Create(*base, text));
  ASSERT_OK(whole->Advance(0, base->layer(0), context));

  ASSERT_OK_AND_ASSIGN(const auto in_steps, LayerSweep::Create(*base, text));
  ASSERT_OK(in_steps->Observe(0, halved, context, show));
  ASSERT_OK(in_steps->Finish(0, base->layer(0), context));
  ASSERT_EQ(shown.size(), 2 * text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_TRUE(at::equal(shown[text.size() + i], of_halved->hidden(i))) << i;
    EXPECT_TRUE(at::equal(in_steps->hidden(i), whole->hidden(i))) << i;
    EXPECT_FALSE(at::equal(whole->hidden(i), of_halved->hidden(i))) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayerSweepOf, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace secateur
