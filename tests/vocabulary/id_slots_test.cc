#include "server/vocabulary/id_slots.h"

#include <vector>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

// Every id one higher.
absl::StatusOr<int64_t> Next(int64_t id) { return id + 1; }

TEST(IdSlots, OfConfigsAreFoundByTheirKeysAtAnyDepth) {
  Json config = Json::parse(R"({
    "vocab_size": 10, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": null,
    "sep_token_id": -1, "boi_token_index": 4, "suppress_tokens": [5], "bad_words_ids": [[6], [7, 8]],
    "max_length": 20, "text_config": {"bos_token_id": 1, "layers": [1, 2]}})");
  ASSERT_OK(VisitConfigIds(config, "config.json", Next));
  EXPECT_EQ(config, Json::parse(R"({
    "vocab_size": 10, "bos_token_id": 2, "eos_token_id": [3, 4], "pad_token_id": null,
    "sep_token_id": -1, "boi_token_index": 5, "suppress_tokens": [6], "bad_words_ids": [[7], [8, 9]],
    "max_length": 20, "text_config": {"bos_token_id": 2, "layers": [1, 2]}})"));
}

TEST(IdSlots, OfTheTokenizerConfigAreKeys) {
  Json config = Json::parse(R"({"added_tokens_decoder": {"3": {"content": "<s>"}, "12": {}},
                                "bos_token": "<s>"})");
  ASSERT_OK(VisitTokenizerConfigIds(config, Next));
  EXPECT_EQ(config.dump(),
            R"({"added_tokens_decoder":{"4":{"content":"<s>"},"13":{}},"bos_token":"<s>"})");
}

TEST(IdSlots, OfAddedTokensAreValues) {
  Json added = Json::parse(R"({"<s>": 3, "</s>": 4})");
  ASSERT_OK(VisitAddedTokenIds(added, Next));
  EXPECT_EQ(added.dump(), R"({"<s>":4,"</s>":5})");
}

TEST(IdSlots, ErrorsNameThePlace) {
  const auto config = [](const char* text, const IdVisitor& visit = Next) {
    Json json = Json::parse(text);
    return VisitConfigIds(json, "generation_config.json", visit);
  };
  EXPECT_THAT(config(R"({"eos_token_id": "2"})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("generation_config.json: \"eos_token_id\" is \"2\"")));
  EXPECT_THAT(config(R"({"eos_token_id": [1.5]})"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(config(R"({"a": {"forced_decoder_ids": [[1, 50]]}})"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("forced_decoder_ids")));
  EXPECT_THAT(config(R"({"sequence_bias": [[[1], 2.0]]})"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("sequence_bias")));
  EXPECT_OK(config(R"({"sequence_bias": null})"));
  const IdVisitor refuse = [](int64_t) { return absl::InvalidArgumentError("unknown"); };
  EXPECT_THAT(config(R"({"bos_token_id": 1})", refuse),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"bos_token_id\": unknown")));
  Json decoder = Json::parse(R"({"added_tokens_decoder": {"x": {}}})");
  EXPECT_THAT(VisitTokenizerConfigIds(decoder, Next),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"x\"")));
}

}  // namespace
}  // namespace secateur
