#include "server/compensate/layer_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace secateur
