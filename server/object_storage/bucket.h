// A bucket as ArrowStore and its writers share it: named calls under the guard, one at a time for a
// key, files that stay open. Calls that run under the guard own what they use: they may outlive the
// store. Thread-safe. Private to object storage.
#pragma once

#include <arrow/filesystem/filesystem.h>
#include <arrow/io/interfaces.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/object_storage/arrow_errors.h"
#include "server/object_storage/object_filesystem.h"
#include "server/object_storage/stall_guard.h"

namespace secateur {

// The folder of what is not published yet, beside all keys.
inline constexpr char kTemporaryFolder[] = ".tmp";
inline constexpr char kCheckKey[] = ".tmp/check";

// In whole seconds.
absl::Time ModifiedTime(const arrow::fs::FileInfo& info);

// Lets one thread at a time work on a key.
class KeyLocks {
 public:
  class Lock {
   public:
    Lock(KeyLocks& locks, std::string key) : locks_(locks), key_(std::move(key)) {
      MutexLock lock(locks_.mutex_);
      while (!locks_.keys_.insert(key_).second) locks_.changed_.Wait(locks_.mutex_);
    }
    ~Lock() {
      MutexLock lock(locks_.mutex_);
      locks_.keys_.erase(key_);
      locks_.changed_.NotifyAll();
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    KeyLocks& locks_;
    const std::string key_;
  };

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> keys_ ABSL_GUARDED_BY(mutex_);
};

class Bucket {
 public:
  // OpenObjectFilesystem under a guard: Arrow opens no bucket of S3 while a call to another hangs.
  // UNAVAILABLE, too, when that takes too long.
  static absl::StatusOr<std::shared_ptr<Bucket>> Open(const std::string& uri,
                                                      const StallGuard::Options& options);
  // Threads that hang are counted for HangingThreads(), too.
  Bucket(ObjectFilesystem opened, StallGuard::Options options);

  const ObjectFilesystem& opened() const { return opened_; }
  const std::string& uri() const { return opened_.uri; }
  bool can_abort() const { return opened_.can_abort; }
  StallGuard& guard() { return guard_; }
  KeyLocks& locks() { return locks_; }
  const std::shared_ptr<arrow::fs::FileSystem>& arrow() const { return opened_.arrow; }
  std::string Path(std::string_view key) const { return StrCat(opened_.root, "/", key); }
  std::string root() const { return opened_.root; }

  // Runs `call`, whose failures are named: "cannot read KEY in URI".
  absl::Status Run(std::string_view verb, std::string_view key,
                   std::function<arrow::Status()> call) {
    const std::string what = What(verb, key);
    return Named(
        guard_.Run([call = std::move(call), what] { return FromArrow(CallArrow(call), what); }),
        what);
  }
  template <class T>
  absl::StatusOr<T> Get(std::string_view verb, std::string_view key,
                        std::function<arrow::Result<T>()> call) {
    const std::string what = What(verb, key);
    absl::StatusOr<T> got = guard_.Get<T>([call = std::move(call), what]() -> absl::StatusOr<T> {
      arrow::Result<T> result = CallArrow(call);
      if (!result.ok()) return FromArrow(result.status(), what);
      return *std::move(result);
    });
    if (!got.ok()) return Named(got.status(), what);
    return got;
  }
  std::string What(std::string_view verb, std::string_view key) const {
    return key.empty() ? StrCat("cannot ", verb, " ", uri())
                       : StrCat("cannot ", verb, " ", key, " in ", uri());
  }

  absl::StatusOr<arrow::fs::FileInfo> Info(std::string_view verb, std::string_view key,
                                           const std::string& path) {
    return Get<arrow::fs::FileInfo>(verb, key,
                                    [arrow = arrow(), path] { return arrow->GetFileInfo(path); });
  }
  // One request, where GetFileInfo makes two for what is missing.
  absl::StatusOr<bool> Exists(std::string_view verb, const std::string& key);
  // DATA_LOSS unless the object at `path` has `size` bytes.
  absl::Status CheckSize(const std::string& key, const std::string& path, int64_t size);
  // All below it.
  absl::StatusOr<std::vector<arrow::fs::FileInfo>> ListFolder(const std::string& path);
  // Of processes that were killed. They take space only, so failures wait for the next Open.
  void RemoveLeftovers(absl::Time before);
  // An Open tries again. (DeleteFile takes seconds at times where it holds a lease.)
  void RemoveFolder(const std::string& path);

  absl::StatusOr<std::shared_ptr<arrow::io::RandomAccessFile>> OpenFile(const std::string& key);
  void CloseFile(const std::string& key);

 private:
  // What the guard itself says has no name yet.
  static absl::Status Named(const absl::Status& status, const std::string& what) {
    if (status.ok() || absl::StartsWith(status.message(), what)) return status;
    return absl::Status(status.code(), StrCat(what, ": ", ToStd(status.message())));
  }

  const ObjectFilesystem opened_;
  StallGuard guard_;
  KeyLocks locks_;
  Mutex mutex_;
  // A file stays open for the next range, until its end was read: its size is known.
  std::map<std::string, std::shared_ptr<arrow::io::RandomAccessFile>> files_
      ABSL_GUARDED_BY(mutex_);
};

// Threads of all buckets of the process that hang in Arrow.
int HangingThreads();

}  // namespace secateur
