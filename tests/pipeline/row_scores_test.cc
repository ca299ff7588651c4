// What other text of the kind needs of a vocabulary.
#include "server/pipeline/row_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/base/strings.h"
#include "server/model/next_tokens.h"
#include "server/model/row_affinity.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::SizeIs;

std::vector<std::string> Texts(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back(StrCat("orange trees, number ", i));
  return texts;
}

TextSample SampleOf(const std::vector<std::string>& texts) {
  TextSample sample;
  for (const std::string& text : texts) sample.Add(Sha256Of(text), text);
  return sample;
}

TEST(TextSample, IsTheSameWhateverOrderTheDocumentsComeIn) {
  std::vector<std::string> texts = Texts(100);
  const TextSample sample = SampleOf(texts);
  EXPECT_THAT(sample.texts(), SizeIs(TextSample::kDocuments));
  std::reverse(texts.begin(), texts.end());
  EXPECT_EQ(SampleOf(texts).texts(), sample.texts());
  std::rotate(texts.begin(), texts.begin() + 37, texts.end());
  EXPECT_EQ(SampleOf(texts).texts(), sample.texts());
}

TEST(TextSample, HasADocumentOnceAndAllOfAFew) {
  std::vector<std::string> texts = Texts(5);
  texts.push_back(texts[0]);
  EXPECT_THAT(SampleOf(texts).texts(), SizeIs(5));
}

class ScoreRowsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(folder_.path()));
    ASSERT_OK_AND_ASSIGN(model_, Transformer::Load(folder, Device{}, context_));
    ASSERT_OK_AND_ASSIGN(tokenizer_, Tokenizer::FromJson(TinyTokenizerJson()));
  }
  absl::StatusOr<std::vector<float>> Score(const TextSample& sample) {
    return ScoreRows(*model_, *tokenizer_, kExamples, sample, lane_, context_);
  }
  // Mean 0, deviation 1.
  static std::vector<double> Standardized(std::vector<double> values) {
    const auto count = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
    double squares = 0;
    for (const double value : values) squares += (value - mean) * (value - mean);
    for (double& value : values) value = (value - mean) / std::sqrt(squares / count);
    return values;
  }

  const std::vector<int32_t> kExamples = {97, 100, 101, 110, 111, 114};
  const TempDir folder_;
  RunContext context_;
  DeviceLane lane_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_P(ScoreRowsTest, AddLikenessAndTwiceTheLogarithmOfWhatTheModelExpects) {
  const std::string text = "orange trees";
  ASSERT_OK_AND_ASSIGN(const std::vector<float> scores, Score(SampleOf({text})));
  PackedBatch batch{{static_cast<int32_t>(kTinyBos)}, {0}};
  ASSERT_OK_AND_ASSIGN(const auto encoding, tokenizer_->Encode(text));
  for (const uint32_t id : encoding.ids) {
    batch.ids.push_back(static_cast<int32_t>(id));
  }
  batch.offsets.push_back(batch.tokens());
  std::vector<double> expected;
  ASSERT_OK(AddNextTokenProbabilities(*model_, batch, context_, expected));
  for (double& p : expected) p = std::log(p / static_cast<double>(batch.tokens()));
  ASSERT_OK_AND_ASSIGN(const auto affinity, RowAffinity(model_->outer().embedding, kExamples));
  const auto alike = Standardized({affinity.begin(), affinity.end()});
  expected = Standardized(expected);
  ASSERT_THAT(scores, SizeIs(alike.size()));
  for (size_t row = 0; row < scores.size(); ++row) {
    EXPECT_NEAR(scores[row], alike[row] + 2 * expected[row], 1e-3) << row;
  }
}

// Not a document's end, whatever its length.
TEST_P(ScoreRowsTest, LookAtTheBeginningOfEachDocument) {
  const std::string begin(200, 'x');
  ASSERT_OK_AND_ASSIGN(const auto one, Score(SampleOf({begin})));
  EXPECT_THAT(Score(SampleOf({begin + "orange trees"})), IsOkAndHolds(one));
}

TEST_P(ScoreRowsTest, TakeTextOfTokensThatTheEmbeddingHasNoRowFor) {
  const std::string text = "orange trees";
  ASSERT_OK_AND_ASSIGN(tokenizer_, Tokenizer::FromJson(TinyTokenizerJson(900)));
  ASSERT_OK_AND_ASSIGN(const auto encoding, tokenizer_->Encode(text));
  ASSERT_GE(*std::max_element(encoding.ids.begin(), encoding.ids.end()),
            model_->config().vocabulary_size);
  EXPECT_THAT(Score(SampleOf({text})), IsOkAndHolds(SizeIs(272)));
}

TEST_P(ScoreRowsTest, StopWhenTheyAreCancelledWhileTheModelReads) {
  RunContext* running = nullptr;
  RunContext context([&](const Progress&) { running->Cancel(); });
  running = &context;
  EXPECT_THAT(ScoreRows(*model_, *tokenizer_, kExamples, SampleOf(Texts(32)), lane_, context),
              StatusIs(absl::StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(Models, ScoreRowsTest, testing::Values("llama_mha", "gemma3"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace secateur
