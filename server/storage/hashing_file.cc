#include "server/storage/hashing_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "server/base/crash_point.h"
#include "server/base/status_macros.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

constexpr int64_t kWritebackBytes = int64_t{8} << 20;
// One write(2). More makes the kernel look for as large a run of free memory each time, which was
// seen to cost six times the copy itself.
constexpr size_t kWriteBytes = size_t{256} << 10;

}  // namespace

HashingFile::~HashingFile() { StopWriter(); }

void HashingFile::StopWriter() {
  if (!writer_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  writer_.join();
}

absl::Status HashingFile::Append(std::string_view data) {
  if (!buffer_.empty()) {
    const size_t take = std::min(data.size(), kPieceBytes - buffer_.size());
    buffer_.append(data.substr(0, take));
    data.remove_prefix(take);
    if (buffer_.size() < kPieceBytes) return absl::OkStatus();
    RETURN_IF_ERROR(WritePiece(buffer_));
    buffer_.clear();
  }
  if (data.size() >= kPieceBytes) return WritePiece(data);
  buffer_.append(data);
  return absl::OkStatus();
}

absl::StatusOr<BlobReceipt> HashingFile::Sync() {
  StopWriter();
  hash_.Update(buffer_);
  RETURN_IF_ERROR(Write(buffer_));
  if (!SeededBug("drop_file_fsync") && fsync(file_.get()) != 0) return ErrnoStatus(errno, "fsync");
  return BlobReceipt{written_, hash_.Finish()};
}

absl::Status HashingFile::WritePiece(std::string_view piece) {
  if (!writer_.joinable()) writer_ = std::thread([this] { RunWriter(); });
  {
    MutexLock lock(mutex_);
    handed_over_ = piece;
  }
  changed_.NotifyAll();
  hash_.Update(piece);
  MutexLock lock(mutex_);
  while (!handed_over_.empty()) changed_.Wait(mutex_);
  return write_status_;
}

void HashingFile::RunWriter() {
  while (true) {
    std::string_view piece;
    {
      MutexLock lock(mutex_);
      while (handed_over_.empty() && !stopping_) changed_.Wait(mutex_);
      if (handed_over_.empty()) return;
      piece = handed_over_;
    }
    absl::Status status = Write(piece);
    {
      MutexLock lock(mutex_);
      write_status_ = std::move(status);
      handed_over_ = {};
    }
    changed_.NotifyAll();
    StartWriteback();  // while the caller's thread goes on
  }
}

absl::Status HashingFile::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(file_.get(), bytes.data(), std::min(bytes.size(), kWriteBytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(n));
    written_ += n;
  }
  return absl::OkStatus();
}

void HashingFile::StartWriteback() {
  if (written_ - writeback_from_ < kWritebackBytes) return;
  // Only a hint: where it is not supported, fsync does all the work.
  sync_file_range(file_.get(), writeback_from_, written_ - writeback_from_, SYNC_FILE_RANGE_WRITE);
  writeback_from_ = written_;
}

}  // namespace secateur
