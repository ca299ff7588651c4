#include "server/storage/blob_store.h"

#include <algorithm>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr size_t kMaxKeyBytes = 512;
constexpr size_t kMaxPartBytes = 255;

bool IsKeyCharacter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

// What is wrong with one part of a key, nullptr if nothing is.
const char* PartProblem(std::string_view part) {
  if (part.empty()) return "has an empty part";
  if (part == "." || part == "..") return "has a part \".\" or \"..\"";
  if (part.size() > kMaxPartBytes) return "has a part longer than 255 bytes";
  if (!std::all_of(part.begin(), part.end(), IsKeyCharacter)) {
    return "has a character other than A-Z, a-z, 0-9, '.', '_', '-' and '/'";
  }
  return nullptr;
}

const char* KeyProblem(std::string_view key) {
  if (key.empty()) return "is empty";
  if (key.size() > kMaxKeyBytes) return "is longer than 512 bytes";
  if (key.substr(0, key.find('/')) == ".tmp") return "starts with the reserved part .tmp";
  while (true) {
    const size_t slash = key.find('/');
    if (const char* problem = PartProblem(key.substr(0, slash))) return problem;
    if (slash == std::string_view::npos) return nullptr;
    key.remove_prefix(slash + 1);
  }
}

}  // namespace

absl::Status CheckBlobKey(std::string_view key) {
  const char* problem = KeyProblem(key);
  if (problem == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("the object key ", Quoted(key), " ", problem));
}

absl::StatusOr<BlobReceipt> BlobStore::Put(const std::string& key, std::string_view data) {
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer, Create(key));
  RETURN_IF_ERROR(writer->Append(data));
  return writer->Commit();
}

absl::StatusOr<std::string> BlobStore::ReadAll(const std::string& key, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const BlobInfo info, Head(key));
  if (info.size > max_bytes) {
    return absl::ResourceExhaustedError(StrCat("the object ", key, " in ", uri(), " has ",
                                               info.size, " bytes, at most ", max_bytes,
                                               " are read at once"));
  }
  ASSIGN_OR_RETURN(std::string bytes, Read(key, 0, info.size));
  if (static_cast<int64_t>(bytes.size()) != info.size) {
    return absl::DataLossError(StrCat("the object ", key, " in ", uri(), " gave ", bytes.size(),
                                      " of its ", info.size, " bytes"));
  }
  return bytes;
}

}  // namespace secateur
