#include "server/vocabulary/model_file.h"

#include <filesystem>

#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {

absl::StatusOr<std::optional<std::string>> ReadModelFile(const std::string& folder,
                                                         const std::string& name) {
  const std::string path = folder + "/" + name;
  std::error_code unreadable;
  if (!std::filesystem::exists(path, unreadable)) return std::nullopt;
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return std::string(file->bytes());
}

absl::StatusOr<std::optional<nlohmann::ordered_json>> ReadModelJson(const std::string& folder,
                                                                    const std::string& name) {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadModelFile(folder, name));
  if (!text) return std::nullopt;
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(*text, nullptr, false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(StrCat(folder, "/", name, " is not valid JSON"));
  }
  return json;
}

}  // namespace secateur
