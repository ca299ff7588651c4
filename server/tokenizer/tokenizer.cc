#include "server/tokenizer/tokenizer.h"

#include <limits>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

// The C ABI of src/lib.rs, which says what each function does and who owns what.
namespace secateur::tokenizer_abi {
extern "C" {

enum Outcome : int { kOk = 0, kInvalid = 1, kPanicked = 2 };

struct Text {
  char* data;
  size_t size;
};

struct Token {
  uint32_t id;
  uint32_t begin;
  uint32_t end;
};

struct Tokens {
  Token* data;
  size_t size;
};

Outcome secateur_tokenizer_create(const char* json, size_t size, void** out,
                                  uint32_t* vocabulary_size, Text* error);
void secateur_tokenizer_free(void* handle);
Outcome secateur_tokenizer_encode(const void* handle, const char* text, size_t size, Tokens* out,
                                  Text* error);
Outcome secateur_tokenizer_decode(const void* handle, const uint32_t* ids, size_t size, Text* out,
                                  Text* error);
int64_t secateur_tokenizer_token_to_id(const void* handle, const char* token, size_t size);
void secateur_tokenizer_free_text(Text text);
void secateur_tokenizer_free_tokens(Tokens tokens);

}  // extern "C"
}  // namespace secateur::tokenizer_abi

namespace secateur {
namespace {

using namespace tokenizer_abi;  // NOLINT(google-build-using-namespace)

// Copies and frees what the Rust side handed over.
std::string Take(Text text) {
  const absl::Cleanup free = [text] { secateur_tokenizer_free_text(text); };
  return std::string(text.data, text.size);
}

// `code` for inputs the library refuses, INTERNAL where it broke.
absl::Status Failure(Outcome outcome, absl::StatusCode code, std::string_view what, Text error) {
  const std::string reason = Take(error);
  if (outcome == kInvalid) return absl::Status(code, StrCat(what, ": ", reason));
  return absl::InternalError(StrCat(what, ": the tokenizers library failed: ", reason));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json) {
  void* handle = nullptr;
  uint32_t vocabulary_size = 0;
  Text error;
  const Outcome outcome =
      secateur_tokenizer_create(json.data(), json.size(), &handle, &vocabulary_size, &error);
  if (outcome != kOk) {
    // Whatever breaks while loading, the file is what has to change.
    return absl::InvalidArgumentError(StrCat(
        "tokenizer.json is not a tokenizer that the tokenizers library can load: ", Take(error)));
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(handle, vocabulary_size));
}

Tokenizer::~Tokenizer() { secateur_tokenizer_free(handle_); }

absl::StatusOr<Tokenizer::Encoding> Tokenizer::Encode(std::string_view text) const {
  if (text.size() > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(StrCat("the text has ", text.size(), " bytes; at most ",
                                             std::numeric_limits<uint32_t>::max(),
                                             " can be encoded at once"));
  }
  if (const auto at = FirstInvalidUtf8(text)) {
    return absl::InvalidArgumentError(StrCat("the text is not UTF-8 at byte ", *at));
  }
  Tokens tokens;
  Text error;
  const Outcome outcome =
      secateur_tokenizer_encode(handle_, text.data(), text.size(), &tokens, &error);
  if (outcome != kOk) {
    return Failure(outcome, absl::StatusCode::kFailedPrecondition,
                   "this tokenizer.json cannot encode the text", error);
  }
  const absl::Cleanup free = [tokens] { secateur_tokenizer_free_tokens(tokens); };
  Encoding encoding;
  encoding.ids.reserve(tokens.size);
  encoding.offsets.reserve(tokens.size);
  for (size_t i = 0; i < tokens.size; ++i) {
    encoding.ids.push_back(tokens.data[i].id);
    encoding.offsets.emplace_back(tokens.data[i].begin, tokens.data[i].end);
  }
  return encoding;
}

absl::StatusOr<std::string> Tokenizer::Decode(const std::vector<uint32_t>& ids) const {
  Text text;
  Text error;
  const Outcome outcome = secateur_tokenizer_decode(handle_, ids.data(), ids.size(), &text, &error);
  if (outcome != kOk) {
    return Failure(outcome, absl::StatusCode::kInvalidArgument, "the ids cannot be decoded", error);
  }
  return Take(text);
}

std::optional<uint32_t> Tokenizer::TokenToId(std::string_view token) const {
  const int64_t id = secateur_tokenizer_token_to_id(handle_, token.data(), token.size());
  if (id < 0) return std::nullopt;
  return static_cast<uint32_t>(id);
}

}  // namespace secateur
