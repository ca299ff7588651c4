#include "server/vocabulary/vocabulary_trimmer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/vocabulary/chat_template.h"
#include "server/vocabulary/id_slots.h"
#include "server/vocabulary/model_file.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

// The JSON files beside tokenizer.json that hold token ids, and how to find them there.
struct IdFile {
  const char* name;
  absl::Status (*visit)(Json& json, const IdVisitor& visit);
};
constexpr std::array<IdFile, 3> kIdFiles = {
    {{"tokenizer_config.json", VisitTokenizerConfigIds},
     {"added_tokens.json", VisitAddedTokenIds},
     {"generation_config.json", [](Json& json, const IdVisitor& visit) {
        return VisitConfigIds(json, "generation_config.json", visit);
      }}}};

// A config.json may leave ids to its family's defaults, which are small: the first ones keep
// theirs.
constexpr int64_t kFirstIds = 8;

// Indented like the files it stands in for.
std::string FileText(const Json& json) { return json.dump(2) + "\n"; }

bool IsOneCharacter(std::string_view token) {
  size_t characters = 0;
  for (size_t i = 0; i < token.size(); ++i) characters += IsUtf8Boundary(token, i) ? 1 : 0;
  return characters == 1;
}

// Every ASCII character as a text of its own.
std::vector<std::string> AsciiTexts() {
  std::vector<std::string> texts;
  for (int code = 0; code < 128; ++code) texts.emplace_back(1, static_cast<char>(code));
  return texts;
}

}  // namespace

VocabularyTrimmer::VocabularyTrimmer(std::string folder, const Tokenizer& tokenizer, int64_t rows,
                                     BpeFile file)
    : folder_(std::move(folder)),
      tokenizer_(tokenizer),
      rows_(rows),
      file_(std::move(file)),
      derivations_(file_) {}

absl::StatusOr<std::unique_ptr<const VocabularyTrimmer>> VocabularyTrimmer::Open(
    const std::string& folder, const Tokenizer& tokenizer, int64_t rows) {
  ASSIGN_OR_RETURN(const auto json, MappedFile::Open(folder + "/tokenizer.json"));
  ASSIGN_OR_RETURN(BpeFile file, BpeFile::Parse(json->bytes()));
  auto trimmer = std::unique_ptr<VocabularyTrimmer>(
      new VocabularyTrimmer(folder, tokenizer, rows, std::move(file)));
  RETURN_IF_ERROR(trimmer->CheckNumbers());
  RETURN_IF_ERROR(trimmer->CollectRequired());
  return trimmer;
}

absl::Status VocabularyTrimmer::CheckNumbers() const {
  for (int32_t id = 0; id < file_.id_limit(); ++id) {
    const std::string& token = file_.token(id);
    if (token.empty() || tokenizer_.TokenToId(token) == static_cast<uint32_t>(id)) continue;
    return absl::InvalidArgumentError(StrCat(folder_, "/tokenizer.json: ", Quoted(token),
                                             " has the id ", id,
                                             "; the tokenizers library gives it another"));
  }
  return absl::OkStatus();
}

absl::Status VocabularyTrimmer::CollectRequired() {
  for (int32_t id = 0; id < std::min(kFirstIds, rows_); ++id) required_.push_back(id);
  const auto require = [this](const std::vector<int32_t>& ids) {
    required_.insert(required_.end(), ids.begin(), ids.end());
  };
  require(file_.added());
  require(file_.byte_tokens());
  if (file_.unknown_token()) required_.push_back(*file_.unknown_token());
  const bool bytes_spell_all = file_.byte_tokens().size() == 256;
  for (int32_t id = 0; !bytes_spell_all && id < file_.id_limit(); ++id) {
    if (IsOneCharacter(file_.token(id))) required_.push_back(id);
  }
  RETURN_IF_ERROR(RequireTexts(AsciiTexts()));
  ASSIGN_OR_RETURN(const std::vector<std::string> chat, ChatTemplateTexts(folder_));
  RETURN_IF_ERROR(RequireTexts(chat));
  return RequireNamedIds();
}

absl::Status VocabularyTrimmer::RequireTexts(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(const Tokenizer::Encoding encoding, tokenizer_.Encode(text));
    required_.insert(required_.end(), encoding.ids.begin(), encoding.ids.end());
  }
  return absl::OkStatus();
}

absl::Status VocabularyTrimmer::RequireNamedIds() {
  const IdVisitor require = [this](int64_t id) -> absl::StatusOr<int64_t> {
    if (!file_.IsToken(id) && id >= rows_) {
      return absl::InvalidArgumentError(
          StrCat("the id ", id, " is neither a token nor a row of the embedding"));
    }
    required_.push_back(static_cast<int32_t>(id));
    return id;
  };
  for (const int64_t id : file_.NamedIds()) {
    RETURN_IF_ERROR(Annotate(require(id).status(), folder_ + "/tokenizer.json"));
  }
  for (const IdFile& file : kIdFiles) {
    ASSIGN_OR_RETURN(std::optional<Json> json, ReadModelJson(folder_, file.name));
    if (json) RETURN_IF_ERROR(Annotate(file.visit(*json, require), folder_));
  }
  ASSIGN_OR_RETURN(std::optional<Json> config, ReadModelJson(folder_, "config.json"));
  if (!config) return absl::OkStatus();
  return Annotate(VisitConfigIds(*config, "config.json", require), folder_);
}

VocabularyOrder VocabularyTrimmer::Order(const TokenCounts& counts,
                                         std::vector<float> scores) const {
  return OrderVocabulary(file_, derivations_, rows_, {counts.by_id, required_, std::move(scores)});
}

KeptVocabulary VocabularyTrimmer::Keep(const VocabularyOrder& order, int64_t rows) const {
  return KeepRows(file_, order, rows);
}

absl::Status VocabularyTrimmer::Renumber(Json& config, const KeptVocabulary& kept) const {
  return VisitConfigIds(config, "config.json", [&](int64_t id) -> absl::StatusOr<int64_t> {
    if (const auto renumbered = kept.NewId(id)) return *renumbered;
    return absl::InvalidArgumentError(StrCat("the id ", id, " is not kept"));
  });
}

absl::StatusOr<TrimmedVocabulary> VocabularyTrimmer::Trim(const KeptVocabulary& kept) const {
  TrimmedVocabulary trimmed;
  std::string json = file_.Trimmed(kept.ids);
  ASSIGN_OR_RETURN(trimmed.tokenizer, Tokenizer::FromJson(json));
  for (size_t i = 0; i < kept.ids.size(); ++i) {
    const int32_t id = kept.ids[i];
    if (!file_.IsToken(id)) continue;
    if (trimmed.tokenizer->TokenToId(file_.token(id)) != static_cast<uint32_t>(i)) {
      return absl::InternalError(StrCat("the trimmed tokenizer.json gives ",
                                        Quoted(file_.token(id)), " another id than ", i));
    }
  }
  trimmed.files["tokenizer.json"] = std::move(json);
  const IdVisitor renumber = [&](int64_t id) -> absl::StatusOr<int64_t> { return *kept.NewId(id); };
  for (const IdFile& file : kIdFiles) {
    ASSIGN_OR_RETURN(std::optional<Json> content, ReadModelJson(folder_, file.name));
    if (!content) continue;
    RETURN_IF_ERROR(file.visit(*content, renumber));
    trimmed.files[file.name] = FileText(*content);
  }
  return trimmed;
}

absl::Status VocabularyTrimmer::CheckText(std::string_view text, const KeptVocabulary& kept,
                                          const Tokenizer& trimmed) const {
  ASSIGN_OR_RETURN(const Tokenizer::Encoding before, tokenizer_.Encode(text));
  ASSIGN_OR_RETURN(const Tokenizer::Encoding after, trimmed.Encode(text));
  ASSIGN_OR_RETURN(const std::string wanted, tokenizer_.Decode(before.ids));
  ASSIGN_OR_RETURN(const std::string found, trimmed.Decode(after.ids));
  if (found != wanted) {
    return absl::DataLossError(StrCat("the trimmed tokenizer decodes ", Quoted(found),
                                      " where the base's decodes ", Quoted(wanted)));
  }
  std::vector<uint32_t> renumbered;
  for (const uint32_t id : before.ids) {
    for (const int32_t step : derivations_.Of(static_cast<int32_t>(id))) {
      if (!kept.NewId(step)) return absl::OkStatus();  // nothing is promised
    }
    renumbered.push_back(static_cast<uint32_t>(*kept.NewId(id)));
  }
  if (renumbered == after.ids) return absl::OkStatus();
  return absl::DataLossError(StrCat("the trimmed tokenizer cuts ", Quoted(text), " into ",
                                    after.ids.size(), " tokens; the base's ", before.ids.size(),
                                    " tokens are all kept"));
}

bool VocabularyTrimmer::IsLeftOut(std::string_view name) {
  return name == "vocab.json" || name == "merges.txt" || name == "tokenizer.model";
}

}  // namespace secateur
