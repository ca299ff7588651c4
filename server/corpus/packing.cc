#include "server/corpus/packing.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

absl::Status CheckSettings(const FramingSettings& settings, int64_t first_token_id) {
  if (settings.max_document_tokens < 1 || settings.block_tokens < 1) {
    return absl::InvalidArgumentError(StrCat("max_document_tokens is ",
                                             settings.max_document_tokens, ", block_tokens is ",
                                             settings.block_tokens, "; both are at least 1"));
  }
  if (first_token_id < 0 || first_token_id > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        StrCat("the first token id is ", first_token_id, "; ids are 0 to 2^31 - 1"));
  }
  return absl::OkStatus();
}

}  // namespace

Packer::Packer(const Tokenizer& tokenizer, int64_t first_token_id, FramingSettings settings,
               Sink sink)
    : tokenizer_(tokenizer),
      first_token_id_(first_token_id),
      settings_(settings),
      sink_(std::move(sink)) {}

absl::Status Packer::Add(const Document& document) {
  RETURN_IF_ERROR(CheckSettings(settings_, first_token_id_));
  ASSIGN_OR_RETURN(const Tokenizer::Encoding encoding, tokenizer_.Encode(document.text));
  const auto tokens = static_cast<int64_t>(encoding.ids.size());
  const int64_t kept = std::min(tokens, settings_.max_document_tokens - 1);
  const auto filled = static_cast<int64_t>(block_.ids.size());
  if (filled > 0 && filled + 1 + kept > settings_.block_tokens) RETURN_IF_ERROR(Finish());

  block_.ids.push_back(static_cast<int32_t>(first_token_id_));
  block_.ids.insert(block_.ids.end(), encoding.ids.begin(), encoding.ids.begin() + kept);
  block_.offsets.push_back(static_cast<int64_t>(block_.ids.size()));
  const auto whole = static_cast<int64_t>(document.text.size());
  const int64_t covered = kept == 0 ? 0 : encoding.offsets[static_cast<size_t>(kept - 1)].second;
  block_.text_bytes.push_back(kept == tokens ? whole : covered);
  block_.dropped_tokens += tokens - kept;
  tokens_ += 1 + kept;
  return absl::OkStatus();
}

absl::Status Packer::Finish() {
  if (block_.ids.empty()) return absl::OkStatus();
  const TokenBlock block = std::exchange(block_, {});
  return sink_(block);
}

}  // namespace secateur
