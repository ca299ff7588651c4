#include "server/evaluate/multiple_choice.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr size_t kDraws = 2000;
constexpr size_t kTail = kDraws / 40;  // draws outside the interval on each side: 2.5 %
constexpr uint64_t kSeed = 20250;

// "A" for 0; beyond the letters whatever Unicode has there (a document has at most 1000 choices).
std::string Letter(int64_t index) {
  const auto code = static_cast<uint32_t>('A' + index);
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6U), static_cast<char>(0x80 | (code & 0x3FU))};
}

// The options as they would stand in the text.
std::vector<std::string> Answers(const Document& document) {
  const std::string_view gold =
      std::string_view(document.text).substr(static_cast<size_t>(*document.answer_byte));
  const bool lettered = gold.starts_with(Letter(*document.label) + ". ");
  std::vector<std::string> answers;
  for (size_t k = 0; k < document.choices.size(); ++k) {
    const std::string letter = lettered ? Letter(static_cast<int64_t>(k)) + ". " : "";
    answers.push_back(letter + document.choices[k]);
  }
  return answers;
}

absl::StatusOr<std::vector<int32_t>> Framed(const Tokenizer& tokenizer, int64_t first_token_id,
                                            std::string_view text) {
  ASSIGN_OR_RETURN(const Tokenizer::Encoding encoding, tokenizer.Encode(text));
  std::vector<int32_t> ids = {static_cast<int32_t>(first_token_id)};
  ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
  return ids;
}

ChoiceOption Cut(std::vector<int32_t> ids, int64_t start, int64_t answer_bytes,
                 int64_t max_tokens) {
  const int64_t dropped = std::max<int64_t>(static_cast<int64_t>(ids.size()) - max_tokens, 0);
  ids.erase(ids.begin(), ids.begin() + dropped);
  return {std::move(ids), dropped > 0 ? std::max<int64_t>(start - dropped, 1) : start,
          answer_bytes};
}

}  // namespace

absl::StatusOr<std::vector<ChoiceOption>> FrameChoices(const Tokenizer& tokenizer,
                                                       int64_t first_token_id,
                                                       const Document& document,
                                                       int64_t max_tokens) {
  std::vector<ChoiceOption> options;
  if (document.choices.empty() || !document.label || !document.answer_byte) return options;
  const std::vector<std::string> answers = Answers(document);
  const auto empty = [](const std::string& answer) { return answer.empty(); };
  if (std::any_of(answers.begin(), answers.end(), empty)) return options;
  const std::string prompt = document.text.substr(0, static_cast<size_t>(*document.answer_byte));
  ASSIGN_OR_RETURN(const std::vector<int32_t> asked, Framed(tokenizer, first_token_id, prompt));
  for (const std::string& answer : answers) {
    ASSIGN_OR_RETURN(std::vector<int32_t> whole,
                     Framed(tokenizer, first_token_id, prompt + answer));
    const int64_t start =
        std::mismatch(asked.begin(), asked.end(), whole.begin(), whole.end()).second -
        whole.begin();
    options.push_back(
        Cut(std::move(whole), start, static_cast<int64_t>(answer.size()), max_tokens));
  }
  return options;
}

absl::StatusOr<AccuracyComparison> CompareAccuracy(const std::vector<ChoiceAnswer>& base,
                                                   const std::vector<ChoiceAnswer>& expert,
                                                   const RunContext& context) {
  if (base.size() != expert.size()) {
    return absl::InvalidArgumentError(
        StrCat("the base answers ", base.size(), " documents, the expert ", expert.size()));
  }
  AccuracyComparison result;
  if (base.empty()) return result;
  const size_t count = base.size();
  std::vector<int8_t> gains;  // of each document: 1, 0 or -1
  for (size_t i = 0; i < count; ++i) {
    gains.push_back(static_cast<int8_t>(int{expert[i].right()} - int{base[i].right()}));
    result.base += base[i].right();
    result.expert += expert[i].right();
  }
  result.count = static_cast<int64_t>(count);
  result.base /= static_cast<double>(count);
  result.expert /= static_cast<double>(count);
  // The engine's numbers are fixed by the C++ standard; its distributions are not, so the index is
  // a remainder: its bias, below 1e-12, does not matter.
  std::mt19937_64 random(kSeed);
  std::vector<int64_t> sums(kDraws);
  for (int64_t& sum : sums) {
    RETURN_IF_ERROR(context.CheckCancelled());
    for (size_t i = 0; i < count; ++i) sum += gains[random() % count];
  }
  std::sort(sums.begin(), sums.end());
  result.difference_low = static_cast<double>(sums[kTail]) / static_cast<double>(count);
  result.difference_high =
      static_cast<double>(sums[kDraws - 1 - kTail]) / static_cast<double>(count);
  return result;
}

}  // namespace secateur
