#include "server/evaluate/bits_per_byte.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;

TEST(BitsPerByte, IsTheNatsInBitsOverTheBytes) {
  EXPECT_EQ(BitsPerByte().value(), 0);
  BitsPerByte sum;
  sum.nats = 3 * std::log(2.0);
  sum.bytes = 4;
  EXPECT_DOUBLE_EQ(sum.value(), 0.75);
}

class BitsPerByteOfFamily : public testing::TestWithParam<std::string> {};

// Brute force: each document alone, all logits, one token after the other in float64.
TEST_P(BitsPerByteOfFamily, EqualsTheSumOverTokensOfDocumentsByThemselves) {
  const TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder.path()));
  const auto model = LoadModel(folder.path());
  RunContext context;
  std::mt19937 random(4);
  TokenBlock block;
  block.offsets = {0, 30, 31, 50};
  block.text_bytes = {101, 0, 57};
  for (int i = 0; i < 50; ++i) {
    block.ids.push_back(
        static_cast<int32_t>(random() % static_cast<uint64_t>(model->config().vocabulary_size)));
  }
  double nats = 0;
  for (size_t document = 0; document < 3; ++document) {
    const PackedBatch alone{{block.ids.begin() + block.offsets[document],
                             block.ids.begin() + block.offsets[document + 1]},
                            {0, block.offsets[document + 1] - block.offsets[document]}};
    ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, model->Forward(alone, context));
    ASSERT_OK_AND_ASSIGN(const at::Tensor logits, model->Logits(hidden));
    for (size_t i = 1; i < alone.ids.size(); ++i) {
      double sum = 0;
      const float* row =
          logits.data_ptr<float>() + static_cast<int64_t>(i - 1) * model->config().vocabulary_size;
      for (int64_t v = 0; v < model->config().vocabulary_size; ++v) sum += std::exp(double{row[v]});
      nats += std::log(sum) - row[alone.ids[i]];
    }
  }
  BitsPerByte sum;
  ASSERT_OK(AddBitsPerByte(*model, block, context, sum));
  EXPECT_NEAR(sum.nats, nats, 1e-5 * nats);
  EXPECT_EQ(sum.tokens, 29 + 0 + 18);
  EXPECT_EQ(sum.bytes, 158);
  EXPECT_EQ(sum.documents, 3);
  ASSERT_OK(AddBitsPerByte(*model, block, context, sum));  // adds
  EXPECT_NEAR(sum.nats, 2 * nats, 2e-5 * nats);
  EXPECT_EQ(sum.documents, 6);
}

INSTANTIATE_TEST_SUITE_P(Tiny, BitsPerByteOfFamily,
                         testing::Values("llama_mha", "llama_gqa", "gemma3"),
                         [](const auto& family) { return family.param; });

TEST(AddNll, RefusesWhatIsNotFiniteAndAddsNothing) {
  TokenBlock block;
  block.text_bytes = {5};
  BitsPerByte sum;
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(AddNll({1.0, bad}, block, sum),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("2 tokens")));
  }
  EXPECT_EQ(sum.documents, 0);
  EXPECT_EQ(sum.nats, 0);
}

}  // namespace
}  // namespace secateur
