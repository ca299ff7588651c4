// Writes a file from its beginning and computes the SHA-256 of the bytes on the way. Both cost
// about the same, so they overlap: while the calling thread hashes a large piece, a second thread
// writes it. Small appends gather in a buffer of kPieceBytes first; larger ones are used where they
// lie. The second thread starts with the first full piece: small files never have one.
//
// Writeback to the disk starts while writing, so that Sync has little left to wait for.
// Memory: one buffer of kPieceBytes. One thread at a time. After an error only destruction is
// legal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/digest.h"
#include "server/base/mutex.h"
#include "server/storage/blob_store.h"
#include "server/storage/file_descriptor.h"

namespace secateur {

class HashingFile {
 public:
  static constexpr size_t kPieceBytes = size_t{1} << 20;

  // `file` is open for writing, at offset 0 of an empty file.
  explicit HashingFile(FileDescriptor file) : file_(std::move(file)) {}
  ~HashingFile();
  HashingFile(const HashingFile&) = delete;
  HashingFile& operator=(const HashingFile&) = delete;

  // RESOURCE_EXHAUSTED when the disk or the quota is full.
  absl::Status Append(std::string_view data);
  // On the disk when OK. Once, after the last Append.
  absl::StatusOr<BlobReceipt> Sync();

 private:
  // Hashes and writes at the same time; returns when both are done. `piece` is not empty.
  absl::Status WritePiece(std::string_view piece);
  absl::Status Write(std::string_view bytes);
  void StartWriteback();
  void RunWriter();
  void StopWriter();

  const FileDescriptor file_;
  Sha256 hash_;
  std::string buffer_;  // what is not yet written, less than kPieceBytes
  // Touched by the writer only, and by the caller's thread once that has stopped.
  int64_t written_ = 0;         // bytes
  int64_t writeback_from_ = 0;  // bytes before it are on their way to the disk

  Mutex mutex_;
  CondVar changed_;
  std::string_view handed_over_ ABSL_GUARDED_BY(mutex_);  // empty: nothing to write
  absl::Status write_status_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread writer_;
};

}  // namespace secateur
