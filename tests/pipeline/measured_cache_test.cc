#include "server/pipeline/measured_cache.h"

#include <gtest/gtest.h>

#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

class MeasuredCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(TinyModels().front(), folder_.path()));
    base_ = LoadModel(folder_.path());
  }
  std::shared_ptr<const MeasuredText> Measure() {
    RunContext context;
    const PackedBatch batch = SomeTokens(base_->config());
    CompensationText text{{{batch, std::vector<float>(batch.ids.size(), 0.01F)}}, {}};
    auto measured = MeasuredText::Measure(*base_, std::move(text), {}, context);
    EXPECT_OK(measured);
    return *std::move(measured);
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> base_;
};

TEST_F(MeasuredCacheTest, KeepsTheMostRecentlyUsedWithinItsBytes) {
  const auto a = Measure(), b = Measure(), c = Measure();
  MeasuredCache cache(2 * a->disk_bytes());
  cache.Insert("a", a);
  cache.Insert("b", b);
  EXPECT_EQ(cache.Find("a"), a);
  cache.Insert("c", c);
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ(cache.Find("a"), a);
  EXPECT_EQ(cache.Find("c"), c);
  EXPECT_EQ(cache.disk_bytes(), 2 * a->disk_bytes());
  cache.Insert("c", b);  // the first one stays
  EXPECT_EQ(cache.Find("c"), c);
}

TEST_F(MeasuredCacheTest, KeepsNothingThatDoesNotFitAtAll) {
  const auto a = Measure();
  MeasuredCache cache(a->disk_bytes() - 1);
  cache.Insert("a", a);
  EXPECT_EQ(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.disk_bytes(), 0);
}

}  // namespace
}  // namespace secateur
