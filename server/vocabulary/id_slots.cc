#include "server/vocabulary/id_slots.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

std::string Shown(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 100);
}

absl::Status NoId(std::string_view place, const Json& value) {
  return absl::InvalidArgumentError(
      StrCat(place, " is ", Shown(value), "; a token id is a non-negative integer"));
}

absl::Status VisitNumber(Json& slot, std::string_view place, const IdVisitor& visit) {
  if (!slot.is_number_unsigned()) return NoId(place, slot);
  auto replaced = visit(slot.get<int64_t>());
  if (!replaced.ok()) return Annotate(replaced.status(), place);
  slot = static_cast<uint64_t>(*replaced);
  return absl::OkStatus();
}

// One id or a list of them, at any depth; null and negative numbers mean "none".
absl::Status VisitNumbers(Json& slot, std::string_view place, const IdVisitor& visit) {
  if (slot.is_null()) return absl::OkStatus();
  if (slot.is_number_integer() && slot.get<int64_t>() < 0) return absl::OkStatus();
  if (!slot.is_array()) return VisitNumber(slot, place, visit);
  for (Json& item : slot) RETURN_IF_ERROR(VisitNumbers(item, place, visit));
  return absl::OkStatus();
}

// RoBERTa's and BERT's: "sep": ["</s>", 2].
absl::Status VisitNamedPair(Json& processor, const char* key, const IdVisitor& visit) {
  const std::string place = StrCat("post_processor.", key);
  const auto pair = processor.find(key);
  if (pair == processor.end() || !pair->is_array() || pair->size() != 2) {
    return absl::InvalidArgumentError(StrCat(place, " is no pair of a token and its id"));
  }
  return VisitNumber((*pair)[1], place, visit);
}

absl::Status VisitPostProcessor(Json& processor, const IdVisitor& visit);

absl::Status VisitTemplate(Json& processor, const IdVisitor& visit) {
  const auto specials = processor.find("special_tokens");
  if (specials == processor.end()) return absl::OkStatus();
  // An object by token, or a list.
  for (Json& special : *specials) {
    const auto ids = special.is_object() ? special.find("ids") : special.end();
    if (ids == special.end()) {
      return absl::InvalidArgumentError("post_processor.special_tokens has an entry without ids");
    }
    RETURN_IF_ERROR(VisitNumbers(*ids, "post_processor.special_tokens", visit));
  }
  return absl::OkStatus();
}

absl::Status VisitSequence(Json& processor, const IdVisitor& visit) {
  const auto parts = processor.find("processors");
  if (parts == processor.end() || !parts->is_array()) {
    return absl::InvalidArgumentError("post_processor is a Sequence without processors");
  }
  for (Json& part : *parts) RETURN_IF_ERROR(VisitPostProcessor(part, visit));
  return absl::OkStatus();
}

absl::Status VisitPostProcessor(Json& processor, const IdVisitor& visit) {
  if (processor.is_null()) return absl::OkStatus();
  const std::string type = processor.is_object() ? processor.value("type", "") : "";
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return VisitTemplate(processor, visit);
  if (type == "Sequence") return VisitSequence(processor, visit);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    RETURN_IF_ERROR(VisitNamedPair(processor, "sep", visit));
    return VisitNamedPair(processor, "cls", visit);
  }
  return absl::UnimplementedError(
      StrCat("post_processor.type is ", Quoted(type),
             ", whose token ids are not known; ByteLevel, TemplateProcessing, RobertaProcessing, "
             "BertProcessing and Sequence are"));
}

bool HoldsIds(std::string_view key) {
  static constexpr std::array<std::string_view, 3> kEndings = {"_token_id", "_token_ids",
                                                               "_token_index"};
  static constexpr std::array<std::string_view, 3> kLists = {
      "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [key](std::string_view ending) { return key.ends_with(ending); }) ||
         std::find(kLists.begin(), kLists.end(), key) != kLists.end();
}

// Ids among numbers that are none, or in keys.
bool HoldsIdsOtherwise(std::string_view key) {
  return key == "forced_decoder_ids" || key == "sequence_bias" || key == "force_words_ids";
}

}  // namespace

absl::Status VisitTokenizerIds(Json& tokenizer, const IdVisitor& visit) {
  const auto added = tokenizer.find("added_tokens");
  if (added != tokenizer.end() && added->is_array()) {
    for (Json& token : *added) {
      const auto id = token.is_object() ? token.find("id") : token.end();
      if (id == token.end()) {
        return absl::InvalidArgumentError(StrCat("added_tokens has ", Shown(token), " without id"));
      }
      RETURN_IF_ERROR(VisitNumber(*id, "added_tokens", visit));
    }
  }
  const auto padding = tokenizer.find("padding");
  if (padding != tokenizer.end() && padding->is_object() && padding->contains("pad_id")) {
    RETURN_IF_ERROR(VisitNumber((*padding)["pad_id"], "padding.pad_id", visit));
  }
  const auto processor = tokenizer.find("post_processor");
  if (processor == tokenizer.end()) return absl::OkStatus();
  return VisitPostProcessor(*processor, visit);
}

absl::Status VisitConfigIds(Json& config, std::string_view file, const IdVisitor& visit) {
  if (config.is_array()) {
    for (Json& item : config) RETURN_IF_ERROR(VisitConfigIds(item, file, visit));
    return absl::OkStatus();
  }
  if (!config.is_object()) return absl::OkStatus();
  for (auto& [key, value] : config.items()) {
    const std::string place = StrCat(file, ": ", Quoted(key));
    if (HoldsIdsOtherwise(key) && !value.is_null()) {
      return absl::UnimplementedError(
          StrCat(place, " is set; its token ids cannot follow a trimmed vocabulary"));
    }
    RETURN_IF_ERROR(HoldsIds(key) ? VisitNumbers(value, place, visit)
                                  : VisitConfigIds(value, file, visit));
  }
  return absl::OkStatus();
}

absl::Status VisitTokenizerConfigIds(Json& config, const IdVisitor& visit) {
  const auto decoder = config.is_object() ? config.find("added_tokens_decoder") : config.end();
  if (decoder == config.end() || !decoder->is_object()) return absl::OkStatus();
  Json renamed = Json::object();
  for (auto& [key, value] : decoder->items()) {
    int64_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || id < 0) {
      return absl::InvalidArgumentError(StrCat(
          "tokenizer_config.json: added_tokens_decoder has the key ", Quoted(key), ", no id"));
    }
    auto replaced = visit(id);
    if (!replaced.ok()) {
      return Annotate(replaced.status(), "tokenizer_config.json: added_tokens_decoder");
    }
    renamed.get_ref<Json::object_t&>().push_back({std::to_string(*replaced), std::move(value)});
  }
  *decoder = std::move(renamed);
  return absl::OkStatus();
}

absl::Status VisitAddedTokenIds(Json& added, const IdVisitor& visit) {
  if (!added.is_object()) {
    return absl::InvalidArgumentError("added_tokens.json is no object from tokens to ids");
  }
  for (auto& [token, id] : added.items()) {
    RETURN_IF_ERROR(VisitNumber(id, StrCat("added_tokens.json: ", Quoted(token)), visit));
  }
  return absl::OkStatus();
}

}  // namespace secateur
