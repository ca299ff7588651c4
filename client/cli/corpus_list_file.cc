#include "client/cli/corpus_list_file.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/read_file.h"

namespace secateur::cli {
namespace {

using nlohmann::json;

// Whether a list may name this file: a path that stays in the list's folder.
bool StaysInside(const std::filesystem::path& file) {
  return !file.empty() && file.is_relative() &&
         std::none_of(file.begin(), file.end(), [](const auto& part) { return part == ".."; });
}

// The text of an optional field; false when it is something else.
bool ReadText(const json& entry, const char* key, std::string& text) {
  const auto field = entry.find(key);
  if (field == entry.end()) return true;
  if (!field->is_string()) return false;
  text = field->get<std::string>();
  return true;
}

bool ReadLabels(const json& entry, std::map<std::string, std::string>& labels) {
  const auto field = entry.find("labels");
  if (field == entry.end() || !field->is_object()) return false;
  for (const auto& [key, value] : field->items()) {
    if (!value.is_string()) return false;
    labels[key] = value.get<std::string>();
  }
  return true;
}

// An empty result is fine; otherwise what is wrong with the entry.
std::string ReadEntry(const json& entry, const std::filesystem::path& folder,
                      ListedCorpus& corpus) {
  if (!entry.is_object()) return "is not an object";
  std::string file;
  if (!ReadText(entry, "file", file) || !StaysInside(file)) {
    return "needs \"file\", a path inside the list's folder";
  }
  corpus.path = (folder / file).string();
  if (!ReadLabels(entry, corpus.labels)) return "needs \"labels\", an object of strings";
  if (!ReadText(entry, "purpose", corpus.purpose)) return "has a \"purpose\" that is no string";
  const auto documents = entry.find("documents");
  if (documents == entry.end()) return "";
  if (!documents->is_number_unsigned()) return "has \"documents\" that is no count";
  corpus.documents = documents->get<int64_t>();
  return "";
}

}  // namespace

absl::StatusOr<std::vector<ListedCorpus>> ReadCorpusList(const std::string& path) {
  const auto text = ReadSmallFile("--manifest", path);
  if (!text.ok()) return text.status();
  const json list = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array() || list.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--manifest ", path, " is not a JSON array of {\"file\", \"labels\"}"));
  }
  std::vector<ListedCorpus> corpora(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string wrong =
        ReadEntry(list[i], std::filesystem::path(path).parent_path(), corpora[i]);
    if (!wrong.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--manifest ", path, ": entry ", i + 1, " ", wrong));
    }
  }
  return corpora;
}

}  // namespace secateur::cli
