#include "server/profile/profile_metadata.h"

#include <limits>
#include <string_view>

#include "absl/strings/numbers.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr std::string_view kFormat = "secateur.profile";
constexpr size_t kTextLimit = 256;
constexpr int64_t kDimensionLimit = 65'536;
constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

// Takes entries out of the map and remembers the first problem, so that callers read straight on.
class Entries {
 public:
  explicit Entries(const ProfileMetadata& metadata) : rest_(metadata) {}

  std::string Text(const std::string& name) {
    const auto node = rest_.extract(name);
    if (node.empty()) {
      Fail(StrCat("metadata \"", name, "\" is missing"));
      return "";
    }
    const std::string& text = node.mapped();
    if (text.empty() || text.size() > kTextLimit || FirstInvalidUtf8(text)) {
      Fail(StrCat("metadata \"", name, "\" is ", Quoted(text), "; expected 1 to ", kTextLimit,
                  " bytes of UTF-8"));
    }
    return text;
  }

  bool Has(const std::string& name) const { return rest_.contains(name); }

  int64_t Number(const std::string& name, int64_t least, int64_t most) {
    const std::string text = Text(name);
    int64_t value = 0;
    const bool decimal = absl::SimpleAtoi(text, &value) && absl::StrCat(value) == text;
    if (!decimal || value < least || value > most) {
      Fail(StrCat("metadata \"", name, "\" is ", Quoted(text), "; expected a number from ", least,
                  " to ", most));
    }
    return value;
  }

  Digest Hash(const std::string& name) {
    const std::string text = Text(name);
    const absl::StatusOr<Digest> digest = Digest::FromHex(text);
    if (digest.ok() && digest->Hex() == text) return *digest;
    Fail(
        StrCat("metadata \"", name, "\" is ", Quoted(text), "; expected 64 lower-case hex digits"));
    return {};
  }

  const absl::Status& status() const { return status_; }

  absl::Status Finish() {
    if (status_.ok() && !rest_.empty()) {
      Fail(StrCat("metadata ", Quoted(rest_.begin()->first), " is not known"));
    }
    return status_;
  }

 private:
  void Fail(const std::string& message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(message);
  }

  ProfileMetadata rest_;
  absl::Status status_;
};

// Entries that stand there together, or none of them.
void TakeAttention(Entries& entries, ProfileSummary& summary) {
  summary.key.attention = entries.Has("query_heads");
  if (!summary.key.attention) return;
  summary.heads.heads = entries.Number("query_heads", 1, kDimensionLimit);
  summary.heads.kv_heads = entries.Number("kv_heads", 1, kDimensionLimit);
  summary.heads.head_dim = entries.Number("head_dim", 2, kDimensionLimit);
}

// Before anything else is looked at: another version may mean anything by it.
absl::Status CheckVersion(Entries& entries) {
  const std::string format = entries.Text("format");
  const int64_t version = entries.Number("format_version", 1, kAny);
  RETURN_IF_ERROR(entries.status());
  if (format != kFormat) {
    return absl::InvalidArgumentError(
        StrCat("metadata \"format\" is ", Quoted(format), "; expected \"", kFormat, "\""));
  }
  if (version != kProfileFormatVersion) {
    return absl::UnimplementedError(StrCat("metadata \"format_version\" is ", version,
                                           "; this program reads ", kProfileFormatVersion));
  }
  return absl::OkStatus();
}

}  // namespace

ProfileMetadata ToMetadata(const ProfileSummary& summary) {
  const ProfileKey& key = summary.key;
  ProfileMetadata metadata = {{"format", std::string(kFormat)},
                              {"format_version", absl::StrCat(kProfileFormatVersion)},
                              {"model", key.model},
                              {"model_digest", key.model_digest.Hex()},
                              {"tokenizer_digest", key.tokenizer_digest.Hex()},
                              {"corpus_digest", key.corpus_digest.Hex()},
                              {"max_document_tokens", absl::StrCat(key.max_document_tokens)},
                              {"block_tokens", absl::StrCat(key.block_tokens)},
                              {"framing_version", absl::StrCat(key.framing_version)},
                              {"scoring_version", absl::StrCat(key.scoring_version)},
                              {"compute_type", key.compute_type},
                              {"device_kind", key.device_kind},
                              {"documents", absl::StrCat(summary.documents)},
                              {"tokens", absl::StrCat(summary.tokens)},
                              {"dropped_tokens", absl::StrCat(summary.dropped_tokens)},
                              {"half_documents", absl::StrCat(summary.half_documents)},
                              {"layers", absl::StrCat(summary.layers)},
                              {"neurons", absl::StrCat(summary.neurons)},
                              {"kv_head_groups", absl::StrCat(summary.kv_head_groups)}};
  if (!key.attention) return metadata;
  metadata["query_heads"] = absl::StrCat(summary.heads.heads);
  metadata["kv_heads"] = absl::StrCat(summary.heads.kv_heads);
  metadata["head_dim"] = absl::StrCat(summary.heads.head_dim);
  return metadata;
}

absl::StatusOr<ProfileSummary> FromMetadata(const ProfileMetadata& metadata) {
  Entries entries(metadata);
  RETURN_IF_ERROR(CheckVersion(entries));
  ProfileSummary summary;
  ProfileKey& key = summary.key;
  key.model = entries.Text("model");
  key.model_digest = entries.Hash("model_digest");
  key.tokenizer_digest = entries.Hash("tokenizer_digest");
  key.corpus_digest = entries.Hash("corpus_digest");
  key.max_document_tokens = entries.Number("max_document_tokens", 0, kAny);
  key.block_tokens = entries.Number("block_tokens", 0, kAny);
  key.framing_version = entries.Number("framing_version", 0, kAny);
  key.scoring_version = entries.Number("scoring_version", 0, kAny);
  key.compute_type = entries.Text("compute_type");
  key.device_kind = entries.Text("device_kind");
  summary.documents = entries.Number("documents", 1, kMaxDocuments);
  summary.tokens = entries.Number("tokens", summary.documents, kAny);
  summary.dropped_tokens = entries.Number("dropped_tokens", 0, kAny);
  summary.half_documents = entries.Number("half_documents", 0, summary.documents);
  summary.layers = entries.Number("layers", 1, kDimensionLimit);
  summary.neurons = entries.Number("neurons", 1, kDimensionLimit);
  summary.kv_head_groups = entries.Number("kv_head_groups", 1, kDimensionLimit);
  TakeAttention(entries, summary);
  RETURN_IF_ERROR(entries.Finish());
  if (!summary.key.attention) return summary;
  RETURN_IF_ERROR(AttentionProfile::Check(summary.heads));
  if (summary.heads.kv_heads != summary.kv_head_groups) {
    return absl::InvalidArgumentError(StrCat("metadata \"kv_heads\" is ", summary.heads.kv_heads,
                                             ", \"kv_head_groups\" is ", summary.kv_head_groups,
                                             "; they must be equal"));
  }
  return summary;
}

}  // namespace secateur
