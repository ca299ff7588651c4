#include "client/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace secateur {
namespace {

using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
constexpr size_t kBlock = 1 << 20;

DigestContext NewSha256() {
  DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  return context;
}

std::string HexOf(EVP_MD_CTX* context) {
  std::string bytes(EVP_MAX_MD_SIZE, '\0');
  unsigned int length = 0;
  EVP_DigestFinal_ex(context, reinterpret_cast<unsigned char*>(bytes.data()), &length);
  return absl::BytesToHexString(bytes.substr(0, length));
}

std::string Join(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

absl::Status SystemError(const std::string& what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

// rename() is durable once the folder is on disk too.
absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError("open", folder);
  const int result = fsync(fd);
  const absl::Status status = result == 0 ? absl::OkStatus() : SystemError("sync", folder);
  close(fd);
  return status;
}

}  // namespace

absl::Status CheckExpertFile(const v1::ExpertFile& file) {
  const std::string& name = file.name();
  const bool plain =
      !name.empty() && name != "." && name != ".." && name.size() <= 200 &&
      std::none_of(name.begin(), name.end(), [](char c) {
        return c == '/' || c == '\\' || static_cast<unsigned char>(c) < ' ' || c == '\x7f';
      });
  if (!plain) {
    return absl::InvalidArgumentError(absl::StrCat(
        "file name \"", absl::CHexEscape(name),
        "\" is refused: it must be a plain name of at most 200 bytes without folders"));
  }
  if (file.size_bytes() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("size of ", name, " is ", file.size_bytes(), "; it must be at least 0"));
  }
  const bool hex = file.sha256().size() == 64 &&
                   file.sha256().find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex) {
    return absl::InvalidArgumentError(absl::StrCat("sha256 of ", name, " is \"",
                                                   absl::CHexEscape(file.sha256()),
                                                   "\"; it must be 64 lowercase hex digits"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HasExpertFile(const std::string& folder, const v1::ExpertFile& file) {
  const std::string path = Join(folder, file.name());
  std::error_code error;
  const auto kind = std::filesystem::symlink_status(path, error);
  if (!std::filesystem::exists(kind)) return false;
  const auto other = [&path](const std::string& how) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists and ", how, "; move it away or choose another folder"));
  };
  if (!std::filesystem::is_regular_file(kind)) return other("is not a regular file");
  std::ifstream in(path, std::ios::binary);
  if (!in.is_open()) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  const DigestContext digest = NewSha256();
  std::vector<char> block(kBlock);
  int64_t size = 0;
  do {
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    EVP_DigestUpdate(digest.get(), block.data(), static_cast<size_t>(in.gcount()));
    size += in.gcount();
  } while (in);
  if (in.bad()) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  if (size != file.size_bytes() || HexOf(digest.get()) != file.sha256()) {
    return other("holds other bytes");
  }
  return true;
}

PartialFile::PartialFile(std::string folder, const v1::ExpertFile& file)
    : folder_(std::move(folder)),
      path_(Join(folder_,
                 absl::StrCat(".", file.name(), ".", file.sha256().substr(0, 12), ".partial"))),
      file_(file),
      digest_(NewSha256()) {}

PartialFile::~PartialFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::unique_ptr<PartialFile>> PartialFile::Open(const std::string& folder,
                                                               const v1::ExpertFile& file) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make folder ", folder));
  }
  std::unique_ptr<PartialFile> partial(new PartialFile(folder, file));
  if (absl::Status status = partial->OpenAndLock(); !status.ok()) return status;
  if (absl::Status status = partial->ReadPresentBytes(); !status.ok()) return status;
  return partial;
}

absl::Status PartialFile::OpenAndLock() {
  fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) return SystemError("open", path_);
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno != EWOULDBLOCK) return SystemError("lock", path_);
  return absl::AbortedError(
      absl::StrCat("another process is downloading ", Join(folder_, file_.name())));
}

absl::Status PartialFile::ReadPresentBytes() {
  struct stat info{};
  if (fstat(fd_, &info) != 0) return SystemError("read", path_);
  if (info.st_size > file_.size_bytes() && ftruncate(fd_, 0) != 0) {
    return SystemError("truncate", path_);
  }
  std::vector<char> block(kBlock);
  for (;;) {
    const ssize_t count = read(fd_, block.data(), block.size());
    if (count == 0) return absl::OkStatus();
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError("read", path_);
    EVP_DigestUpdate(digest_.get(), block.data(), static_cast<size_t>(count));
    size_ += count;
  }
}

absl::Status PartialFile::Append(const std::string& bytes) {
  if (static_cast<int64_t>(bytes.size()) > file_.size_bytes() - size_) {
    return absl::DataLossError(absl::StrCat(file_.name(), ": more than the ", file_.size_bytes(),
                                            " bytes that the server announced came"));
  }
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(fd_, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError("write", path_);
    EVP_DigestUpdate(digest_.get(), bytes.data() + done, static_cast<size_t>(count));
    done += static_cast<size_t>(count);
    size_ += count;
  }
  return absl::OkStatus();
}

absl::Status PartialFile::Publish() {
  if (size_ != file_.size_bytes()) {
    return absl::DataLossError(absl::StrCat(file_.name(), ": the stream ended after ", size_,
                                            " of ", file_.size_bytes(), " bytes"));
  }
  const std::string digest = HexOf(digest_.get());
  if (digest != file_.sha256()) {
    return absl::DataLossError(absl::StrCat(file_.name(), ": the bytes that came have SHA-256 ",
                                            digest, ", announced was ", file_.sha256()));
  }
  if (fsync(fd_) != 0) return SystemError("sync", path_);
  const std::string destination = Join(folder_, file_.name());
  if (rename(path_.c_str(), destination.c_str()) != 0) {
    return SystemError("rename to " + destination + " from", path_);
  }
  return SyncFolder(folder_);
}

void PartialFile::Discard() { unlink(path_.c_str()); }

}  // namespace secateur
