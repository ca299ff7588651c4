// A file of an expert on its way to a folder. Bytes go to a hidden file beside the destination,
// named after the digest that is expected; Publish checks size and SHA-256 and renames it. What an
// interrupted download left is found again and continued. One thread at a time; a lock on the
// hidden file keeps other processes out. The destructor closes and keeps the hidden file.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"

namespace secateur {

// INVALID_ARGUMENT unless the name is a plain file name (no folders, not "." or "..", no control
// characters), the size is not negative and the digest is 64 lowercase hex digits: a server decides
// what is in these files, never where they go.
absl::Status CheckExpertFile(const v1::ExpertFile& file);

// Whether `folder` holds the file already: true if size and digest agree, false if there is none.
// Errors: ALREADY_EXISTS (something else has that name), NOT_FOUND (it cannot be read).
absl::StatusOr<bool> HasExpertFile(const std::string& folder, const v1::ExpertFile& file);

class PartialFile {
 public:
  // REQUIRES: CheckExpertFile(file) is OK. Makes the folder if it is missing and reads what an
  // earlier download left. Errors: ABORTED (another process is downloading the same file), else
  // what the system says, with the path.
  static absl::StatusOr<std::unique_ptr<PartialFile>> Open(const std::string& folder,
                                                           const v1::ExpertFile& file);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  // Bytes so far.
  int64_t size() const { return size_; }
  // Errors: DATA_LOSS (more bytes than the file has), RESOURCE_EXHAUSTED (disk full).
  absl::Status Append(const std::string& bytes);
  // Gives the file its name. Errors: DATA_LOSS (too short, or another digest).
  absl::Status Publish();
  // Removes the hidden file: its bytes are wrong.
  void Discard();

 private:
  PartialFile(std::string folder, const v1::ExpertFile& file);
  absl::Status OpenAndLock();
  absl::Status ReadPresentBytes();

  const std::string folder_, path_;
  const v1::ExpertFile file_;
  int fd_ = -1;
  int64_t size_ = 0;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest_;
};

}  // namespace secateur
