#include "server/artifact/manifest_files.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "server/artifact/expert_store.h"
#include "server/base/status_macros.h"

namespace secateur {
namespace {

std::string Shown(std::string_view text) {
  return StrCat("\"", absl::CHexEscape(ToAbsl(text.substr(0, 300))), "\"");
}

absl::StatusOr<std::string> TextField(const nlohmann::json& entry, const char* key) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_string()) {
    return absl::InvalidArgumentError(StrCat(key, " is missing or not a string"));
  }
  return found->get<std::string>();
}

// Proto3 writes 64-bit integers as strings, leaves out 0, and reads plain numbers as well.
absl::StatusOr<int64_t> SizeField(const nlohmann::json& entry) {
  const auto found = entry.find("sizeBytes");
  if (found == entry.end()) return 0;
  int64_t size = -1;
  if (found->is_string()) {
    if (!absl::SimpleAtoi(found->get<std::string>(), &size)) size = -1;
  } else if (found->is_number_unsigned() &&
             found->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    size = found->get<int64_t>();
  }
  if (size < 0) {
    return absl::InvalidArgumentError(StrCat(
        "sizeBytes is ", found->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
        ", not a count of bytes"));
  }
  return size;
}

absl::StatusOr<ArtifactFile> ParseFile(const nlohmann::json& entry) {
  if (!entry.is_object()) return absl::InvalidArgumentError("is not an object");
  ArtifactFile file;
  ASSIGN_OR_RETURN(file.name, TextField(entry, "name"));
  RETURN_IF_ERROR(CheckFileName(file.name));
  if (file.name == kManifestName) {
    return absl::InvalidArgumentError(StrCat(Shown(file.name), " cannot list itself"));
  }
  ASSIGN_OR_RETURN(file.size, SizeField(entry));
  ASSIGN_OR_RETURN(const std::string hex, TextField(entry, "sha256"));
  ASSIGN_OR_RETURN(file.digest, Digest::FromHex(hex));
  return file;
}

}  // namespace

absl::Status CheckFileName(std::string_view name) {
  if (name.find('/') != std::string_view::npos || !CheckBlobKey(name).ok()) {
    return absl::InvalidArgumentError(StrCat(
        Shown(name), " cannot be a file of an expert: a name is 1 to 255 of [A-Za-z0-9._-]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ArtifactFile>> ParseManifestFiles(std::string_view manifest_json) {
  const auto manifest = nlohmann::json::parse(manifest_json, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) {
    return absl::InvalidArgumentError("the manifest is not a JSON object");
  }
  const auto entries = manifest.find("files");
  if (entries == manifest.end() || !entries->is_array() || entries->empty()) {
    return absl::InvalidArgumentError("files of the manifest is missing, empty or not an array");
  }
  std::vector<ArtifactFile> files;
  for (size_t i = 0; i < entries->size(); ++i) {
    absl::StatusOr<ArtifactFile> file = ParseFile((*entries)[i]);
    if (!file.ok()) return Annotate(file.status(), StrCat("files[", i, "] of the manifest"));
    files.push_back(*std::move(file));
  }
  const auto by_name = [](const ArtifactFile& a, const ArtifactFile& b) { return a.name < b.name; };
  std::sort(files.begin(), files.end(), by_name);
  const auto same = [](const ArtifactFile& a, const ArtifactFile& b) { return a.name == b.name; };
  const auto twice = std::adjacent_find(files.begin(), files.end(), same);
  if (twice != files.end()) {
    return absl::InvalidArgumentError(
        StrCat("files of the manifest names ", Shown(twice->name), " twice"));
  }
  return files;
}

}  // namespace secateur
