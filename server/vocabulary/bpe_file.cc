#include "server/vocabulary/bpe_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/json_walker.h"
#include "server/vocabulary/id_slots.h"

namespace secateur {

using Json = nlohmann::ordered_json;

namespace {

constexpr size_t kMaxDepth = 64;
constexpr uint64_t kMaxTokens = uint64_t{1} << 24;  // no tokenizer comes near

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(StrCat("tokenizer.json: ", what));
}

absl::Status NotCovered(std::string_view what) {
  return absl::UnimplementedError(
      StrCat("tokenizer.json: ", what, "; a vocabulary of this kind cannot be trimmed"));
}

Json ToJson(JsonScalar value) {
  return std::visit(
      [](auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, JsonFloat>) {
          return Json::parse(v.text);
        } else {
          return std::move(v);
        }
      },
      value);
}

// An empty string where a key is absent or null.
std::string TextAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::Status CheckModel(const Json& model) {
  const std::string type = TextAt(model, "type");
  if (type != "BPE") return NotCovered(StrCat("model.type is ", Quoted(type), ", not \"BPE\""));
  const auto dropout = model.find("dropout");
  if (dropout != model.end() && !dropout->is_null() && *dropout != 0) {
    return NotCovered(StrCat("model.dropout is ", dropout->dump()));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string text = TextAt(model, key);
    if (!text.empty()) return NotCovered(StrCat("model.", key, " is ", Quoted(text)));
  }
  return absl::OkStatus();
}

}  // namespace

// Takes vocabulary and merges, which are large, past the tree that everything else goes to.
class BpeFileReader : public JsonWalker {
 public:
  BpeFileReader() : JsonWalker(kMaxDepth) {}

  absl::StatusOr<BpeFile> Read(std::string_view json) {
    RETURN_IF_ERROR(Annotate(Walk(json), "tokenizer.json"));
    const auto model = file_.rest_.is_object() ? file_.rest_.find("model") : file_.rest_.end();
    if (model == file_.rest_.end() || !model->is_object())
      return Bad("there is no object \"model\"");
    RETURN_IF_ERROR(CheckModel(*model));
    if (!wrong_.empty()) return Bad(wrong_);
    if (vocabulary_.empty()) return Bad("model.vocab has no tokens");
    RETURN_IF_ERROR(PlaceTokens());
    RETURN_IF_ERROR(PlaceAdded());
    PlaceStandIns(*model);
    RETURN_IF_ERROR(PlaceMerges());
    // An unknown post-processor is found now and not when ids are to be replaced.
    RETURN_IF_ERROR(Annotate(
        VisitTokenizerIds(file_.rest_, [](int64_t id) -> absl::StatusOr<int64_t> { return id; }),
        "tokenizer.json"));
    return std::move(file_);
  }

 private:
  bool InModel(std::string_view key) const {
    return depth() >= 3 && KeyAt(0) == "model" && KeyAt(1) == key;
  }

  // Where the next value goes: into the innermost open object or array.
  Json& Place(const std::string& key) {
    if (open_.empty()) return file_.rest_;
    Json& parent = *open_.back();
    if (parent.is_array()) return parent.emplace_back(nullptr);
    auto& object = parent.get_ref<Json::object_t&>();
    object.push_back({key, nullptr});  // not operator[], which looks for the key first
    return object.back().second;
  }

  absl::Status OnOpen(bool is_object) override {
    const bool in_vocabulary = InModel("vocab");
    const bool in_merges = InModel("merges");
    if (in_vocabulary || in_merges) {
      if (depth() == 3) Place(KeyAt(1));
      if (in_merges && depth() == 4) pairs_.emplace_back();
      if (is_object ? !in_vocabulary || depth() > 3 : in_vocabulary || depth() > 4) {
        Wrong(StrCat("model.", KeyAt(1), " has a value of another shape"));
      }
      return absl::OkStatus();
    }
    Json& place = Place(depth() > 1 ? KeyAt(depth() - 2) : "");
    place = is_object ? Json::object() : Json::array();
    open_.push_back(&place);
    return absl::OkStatus();
  }

  absl::Status OnClose() override {
    if (!InModel("vocab") && !InModel("merges")) open_.pop_back();
    return absl::OkStatus();
  }

  absl::Status OnScalar(JsonScalar value) override {
    if (InModel("vocab")) {
      OnToken(value);
    } else if (InModel("merges")) {
      OnMerge(std::move(value));
    } else {
      Place(depth() > 0 ? KeyAt(depth() - 1) : "") = ToJson(std::move(value));
    }
    return absl::OkStatus();
  }

  void OnToken(const JsonScalar& value) {
    const auto* id = std::get_if<uint64_t>(&value);
    if (depth() != 3 || id == nullptr || *id >= kMaxTokens || KeyAt(2).empty()) {
      return Wrong(StrCat("model.vocab: ", Quoted(KeyAt(2)), " is ", Describe(value)));
    }
    vocabulary_.emplace_back(KeyAt(2), static_cast<int32_t>(*id));
  }

  void OnMerge(JsonScalar value) {
    auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return Wrong(StrCat("model.merges: ", Describe(value), " is no text"));
    if (depth() == 4) {
      pairs_.back().push_back(std::move(*text));
      return;
    }
    file_.merges_are_strings_ = true;
    const size_t space = text->find(' ');
    if (space == std::string::npos) return Wrong(StrCat("model.merges: ", Quoted(*text)));
    pairs_.push_back({text->substr(0, space), text->substr(space + 1)});
  }

  // Another model's vocabulary may look otherwise, so its type is told first.
  void Wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  std::string& Slot(int32_t id) {
    const auto at = static_cast<size_t>(id);
    if (file_.tokens_.size() <= at) file_.tokens_.resize(at + 1);
    return file_.tokens_[at];
  }

  absl::Status PlaceTokens() {
    for (auto& [token, id] : vocabulary_) {
      std::string& slot = Slot(id);
      if (!slot.empty()) {
        return Bad(
            StrCat("tokens ", Quoted(slot), " and ", Quoted(token), " both have the id ", id));
      }
      slot = token;
    }
    return absl::OkStatus();
  }

  absl::Status PlaceAdded() {
    std::unordered_map<std::string_view, int32_t> ids;
    for (const auto& [token, id] : vocabulary_) ids.emplace(token, id);
    const auto added = file_.rest_.find("added_tokens");
    if (added != file_.rest_.end() && added->is_array()) {
      for (const Json& token : *added) RETURN_IF_ERROR(PlaceOneAdded(token, ids));
    }
    std::sort(file_.added_.begin(), file_.added_.end());
    // tokens_ has its final size: views of its strings stay good.
    for (const auto& [token, id] : vocabulary_) file_.model_ids_.emplace(Slot(id), id);
    return absl::OkStatus();
  }

  absl::Status PlaceOneAdded(const Json& token,
                             const std::unordered_map<std::string_view, int32_t>& model_ids) {
    const std::string content = token.is_object() ? TextAt(token, "content") : "";
    const auto id = content.empty() ? token.end() : token.find("id");
    if (id == token.end() || !id->is_number_unsigned() || id->get<uint64_t>() >= kMaxTokens) {
      return Bad("added_tokens has an entry without content or id");
    }
    const auto value = id->get<int32_t>();
    const auto known = model_ids.find(content);
    std::string& slot = Slot(value);
    if (known != model_ids.end() ? known->second != value : !slot.empty()) {
      return Bad(StrCat("added_tokens: ", Quoted(content), " has the id ", value,
                        ", which model.vocab contradicts"));
    }
    slot = content;
    file_.added_.push_back(value);
    return absl::OkStatus();
  }

  void PlaceStandIns(const Json& model) {
    const std::string unknown = TextAt(model, "unk_token");
    if (!unknown.empty()) file_.unknown_ = file_.ModelId(unknown);
    const auto fallback = model.find("byte_fallback");
    if (fallback == model.end() || *fallback != true) return;
    for (int byte = 0; byte < 256; ++byte) {
      if (const auto id = file_.ModelId(absl::StrFormat("<0x%02X>", byte))) {
        file_.byte_tokens_.push_back(*id);
      }
    }
    std::sort(file_.byte_tokens_.begin(), file_.byte_tokens_.end());
  }

  bool IsStandIn(int32_t id) const {
    return id == file_.unknown_ ||
           std::binary_search(file_.byte_tokens_.begin(), file_.byte_tokens_.end(), id);
  }

  absl::Status PlaceMerges() {
    file_.merges_.reserve(pairs_.size());
    for (const std::vector<std::string>& pair : pairs_) {
      if (pair.size() != 2) return Bad("model.merges has an entry that is no pair");
      const auto left = file_.ModelId(pair[0]);
      const auto right = file_.ModelId(pair[1]);
      const auto product = file_.ModelId(pair[0] + pair[1]);
      const std::string shown = StrCat(Quoted(pair[0]), " and ", Quoted(pair[1]));
      if (!left || !right || !product) {
        return Bad(StrCat("model.merges joins ", shown, ", which model.vocab does not all have"));
      }
      if (IsStandIn(*left) || IsStandIn(*right)) {
        return NotCovered(
            StrCat("model.merges joins ", shown, ", which stand for bytes or unknown text"));
      }
      file_.merges_.push_back({*left, *right, *product});
    }
    return absl::OkStatus();
  }

  BpeFile file_;
  std::vector<Json*> open_;
  std::vector<std::pair<std::string, int32_t>> vocabulary_;
  std::vector<std::vector<std::string>> pairs_;
  std::string wrong_;  // the first value that is not as BPE has it
};

absl::StatusOr<BpeFile> BpeFile::Parse(std::string_view tokenizer_json) {
  return BpeFileReader().Read(tokenizer_json);
}

std::optional<int32_t> BpeFile::ModelId(std::string_view token) const {
  const auto found = model_ids_.find(token);
  return found == model_ids_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<int64_t> BpeFile::NamedIds() const {
  std::vector<int64_t> ids;
  Json copy = rest_;
  const absl::Status visited =
      VisitTokenizerIds(copy, [&ids](int64_t id) -> absl::StatusOr<int64_t> {
        ids.push_back(id);
        return id;
      });
  visited.IgnoreError();  // Parse() has gone the same way
  return ids;
}

std::string BpeFile::Trimmed(const std::vector<int32_t>& kept) const {
  const auto new_id = [&kept](int64_t id) -> std::optional<int64_t> {
    const auto at = std::lower_bound(kept.begin(), kept.end(), id);
    if (at == kept.end() || *at != id) return std::nullopt;
    return at - kept.begin();
  };
  Json trimmed = rest_;
  VisitTokenizerIds(trimmed, [&](int64_t id) -> absl::StatusOr<int64_t> {
    return *new_id(id);
  }).IgnoreError();

  Json::object_t vocabulary;
  for (size_t i = 0; i < kept.size(); ++i) {
    const std::string& text = kept[i] < id_limit() ? token(kept[i]) : std::string();
    if (text.empty() || ModelId(text) != kept[i]) continue;  // no token, or an added one alone
    vocabulary.push_back({text, i});
  }
  std::vector<bool> stays(tokens_.size());
  for (const int32_t id : kept) {
    if (id < id_limit()) stays[static_cast<size_t>(id)] = true;
  }
  Json::array_t merges;
  for (const Merge& merge : merges_) {
    if (!stays[static_cast<size_t>(merge.left)] || !stays[static_cast<size_t>(merge.right)] ||
        !stays[static_cast<size_t>(merge.product)]) {
      continue;
    }
    if (merges_are_strings_) {
      merges.push_back(token(merge.left) + " " + token(merge.right));
    } else {
      merges.push_back(Json::array({token(merge.left), token(merge.right)}));
    }
  }
  trimmed["model"]["vocab"] = std::move(vocabulary);
  trimmed["model"]["merges"] = std::move(merges);
  return trimmed.dump();
}

}  // namespace secateur
