#include "server/format/scratch_tensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace secateur {
namespace {

// Tensors start at multiples of this, so that any element type can be read in place.
constexpr int64_t kAlignment = 64;

absl::Status WriteAll(int file, std::string_view bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(file, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, "cannot write a temporary file");
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ScratchTensors>> ScratchTensors::Create() {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (error) return absl::ErrnoToStatus(error.value(), "no folder for temporary files");
  std::string path = (folder / "secateur-XXXXXX").string();
  const int file = mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a temporary file in ",
                                                   folder.string(), " (TMPDIR moves it)"));
  }
  unlink(path.c_str());
  return std::unique_ptr<ScratchTensors>(new ScratchTensors(file));
}

ScratchTensors::~ScratchTensors() {
  if (file_ >= 0) close(file_);
}

absl::Status ScratchTensors::Add(const TensorSpec& spec, std::string_view bytes) {
  if (file_ < 0) {
    return absl::FailedPreconditionError(absl::StrCat("tensor ", spec.name, " comes too late"));
  }
  if (ByteSize(spec) != static_cast<int64_t>(bytes.size())) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", spec.name, " takes ", ByteSize(spec),
                                                   " bytes, not ", bytes.size()));
  }
  const int64_t offset = (size_ + kAlignment - 1) / kAlignment * kAlignment;
  if (added_.contains(spec.name)) {
    return absl::AlreadyExistsError(absl::StrCat("tensor ", spec.name, " is there already"));
  }
  RETURN_IF_ERROR(WriteAll(file_, bytes, offset));
  added_.emplace(spec.name, std::pair(spec, offset));
  size_ = offset + static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status ScratchTensors::Seal() {
  if (file_ < 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(map_, MappedFile::Open(absl::StrCat("/proc/self/fd/", file_)));
  for (const auto& [name, entry] : added_) {
    const auto& [spec, offset] = entry;
    tensors_[name] = {
        spec.dtype, spec.shape,
        map_->bytes().substr(static_cast<size_t>(offset), static_cast<size_t>(ByteSize(spec)))};
  }
  close(file_);
  file_ = -1;
  return absl::OkStatus();
}

const TensorView* ScratchTensors::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace secateur
