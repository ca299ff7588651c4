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

// Strings of JSON hold no line breaks, and what is further inside is indented further.
constexpr std::string_view kDigestLine = "\n  \"sha256\": \"";
constexpr size_t kDigestDigits = 64;

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

absl::Status CheckVersion(const nlohmann::json& manifest) {
  const auto version = manifest.find("formatVersion");
  if (version == manifest.end() || !version->is_number_integer()) {
    return absl::DataLossError("the manifest has no formatVersion");
  }
  if (*version == kManifestFormatVersion) return absl::OkStatus();
  return absl::UnimplementedError(StrCat("the manifest has formatVersion ", version->dump(),
                                         "; this build reads ", kManifestFormatVersion));
}

absl::Status CheckDigest(std::string_view text) {
  const size_t line = text.find(kDigestLine);
  if (line == std::string_view::npos) return absl::DataLossError("the manifest has no sha256");
  const size_t at = line + kDigestLine.size();
  const std::string_view stated = text.substr(at, kDigestDigits);
  const std::string rest = StrCat(text.substr(0, at), text.substr(at + stated.size()));
  if (stated == Sha256Of(rest).Hex()) return absl::OkStatus();
  return absl::DataLossError("the manifest does not match its own sha256");
}

absl::StatusOr<nlohmann::json> ParseChecked(std::string_view text) {
  auto manifest = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) return absl::DataLossError("the manifest is not a JSON object");
  RETURN_IF_ERROR(CheckVersion(manifest));
  RETURN_IF_ERROR(CheckDigest(text));
  return manifest;
}

}  // namespace

std::string SealManifest(std::string text) {
  const std::string hex = Sha256Of(text).Hex();
  text.insert(text.find(kDigestLine) + kDigestLine.size(), hex);
  return text;
}

absl::Status CheckManifest(std::string_view text) { return ParseChecked(text).status(); }

absl::Status CheckFileName(std::string_view name) {
  if (name.find('/') != std::string_view::npos || !CheckBlobKey(name).ok()) {
    return absl::InvalidArgumentError(StrCat(
        Shown(name), " cannot be a file of an expert: a name is 1 to 255 of [A-Za-z0-9._-]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ArtifactFile>> ParseManifestFiles(std::string_view manifest_json) {
  ASSIGN_OR_RETURN(const nlohmann::json manifest, ParseChecked(manifest_json));
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
