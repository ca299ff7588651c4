#include "client/read_file.h"

#include <fstream>

#include "absl/strings/str_cat.h"

namespace secateur {

absl::StatusOr<std::string> ReadSmallFile(const std::string& what, const std::string& path) {
  constexpr std::streamsize kLimit = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  std::string bytes(kLimit + 1, '\0');
  file.read(bytes.data(), kLimit + 1);
  // At the end of the file eof and fail are set; bad means that the system refused.
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(absl::StrCat(what, " ", path, " cannot be read"));
  }
  if (file.gcount() > kLimit) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " ", path, " is longer than 1 MiB, which is allowed at most"));
  }
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

}  // namespace secateur
