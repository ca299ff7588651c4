#include "server/object_storage/arrow_store.h"

#include <arrow/filesystem/s3fs.h>
#include <arrow/io/interfaces.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/object_storage/arrow_errors.h"
#include "server/object_storage/object_filesystem.h"
#include "server/object_storage/object_stream.h"
#include "server/object_storage/stall_guard.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

using arrow::fs::FileInfo;
using arrow::fs::FileSystem;
using arrow::fs::FileType;
using Buffers = std::vector<std::shared_ptr<arrow::Buffer>>;

constexpr char kTemporaryFolder[] = ".tmp";
constexpr char kCheckKey[] = ".tmp/check";
constexpr absl::Duration kLeftoverAge = absl::Hours(24);
constexpr size_t kOpenFiles = 64;

std::atomic<int> hanging_threads{0};

absl::Time ModifiedTime(const FileInfo& info) {
  return absl::FromTimeT(std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(info.mtime())));
}

std::string RandomName() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

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

}  // namespace

// What store and writers share. Calls that run under the guard own what they use: they may outlive
// the store.
class ArrowStore::Bucket {
 public:
  Bucket(ObjectFilesystem opened, const Options& options)
      : opened_(std::move(opened)), guard_(GuardOptions(options)) {}

  const ObjectFilesystem& opened() const { return opened_; }
  const std::string& uri() const { return opened_.uri; }
  bool can_abort() const { return opened_.can_abort; }
  StallGuard& guard() { return guard_; }
  KeyLocks& locks() { return locks_; }
  const std::shared_ptr<FileSystem>& arrow() const { return opened_.arrow; }
  std::string Path(std::string_view key) const { return StrCat(opened_.root, "/", key); }
  std::string root() const { return opened_.root; }

  // Runs `call`, whose failures are named: "cannot read KEY in URI".
  absl::Status Run(std::string_view verb, std::string_view key,
                   std::function<arrow::Status()> call) {
    const std::string what = What(verb, key);
    return Named(guard_.Run([call = std::move(call), what] { return FromArrow(call(), what); }),
                 what);
  }
  template <class T>
  absl::StatusOr<T> Get(std::string_view verb, std::string_view key,
                        std::function<arrow::Result<T>()> call) {
    const std::string what = What(verb, key);
    absl::StatusOr<T> got = guard_.Get<T>([call = std::move(call), what]() -> absl::StatusOr<T> {
      arrow::Result<T> result = call();
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

  absl::StatusOr<FileInfo> Info(std::string_view verb, std::string_view key,
                                const std::string& path) {
    return Get<FileInfo>(verb, key, [arrow = arrow(), path] { return arrow->GetFileInfo(path); });
  }
  // One request, where GetFileInfo makes two for what is missing.
  absl::StatusOr<bool> Exists(std::string_view verb, const std::string& key) {
    absl::Status opened = Run(verb, key, [arrow = arrow(), path = Path(key)] {
      return arrow->OpenInputFile(path).status();
    });
    if (opened.ok()) return true;
    if (absl::IsNotFound(opened)) return false;
    return opened;
  }
  absl::Status CheckSize(const std::string& key, const std::string& path, int64_t size) {
    ASSIGN_OR_RETURN(const FileInfo info, Info("check", key, path));
    if (info.type() == FileType::File && info.size() == size) return absl::OkStatus();
    return absl::DataLossError(StrCat("the object ", key, " in ", uri(), " has ",
                                      info.type() == FileType::File ? info.size() : 0,
                                      " bytes after ", size, " were written"));
  }

  absl::StatusOr<std::vector<FileInfo>> ListFolder(const std::string& path) {
    arrow::fs::FileSelector selector;
    selector.base_dir = path;
    selector.recursive = true;
    selector.allow_not_found = true;
    return Get<std::vector<FileInfo>>(
        "list", "", [arrow = arrow(), selector] { return arrow->GetFileInfo(selector); });
  }
  // They take space only, so failures wait for the next Open.
  void RemoveLeftovers(absl::Time before) {
    if (opened_.uploads != nullptr) {
      const std::string folder = Path("").substr(opened_.root.find('/') + 1);  // of no key: "f/"
      guard_
          .Run([uploads = opened_.uploads, folder, before] {
            return uploads->AbortOld(folder, before).status();
          })
          .IgnoreError();
      return;
    }
    const auto infos = ListFolder(Path(kTemporaryFolder));
    if (!infos.ok()) return;
    for (const FileInfo& info : *infos) {
      const bool in_folder = info.path() != Path(kCheckKey);
      if (info.type() != FileType::File || !in_folder || ModifiedTime(info) >= before) continue;
      RemoveFolder(info.path().substr(0, info.path().rfind('/')));
    }
  }
  // An Open tries again. (DeleteFile takes seconds at times where it holds a lease.)
  void RemoveFolder(const std::string& path) {
    Run("clean up", "", [arrow = arrow(), path] { return arrow->DeleteDir(path); }).IgnoreError();
  }

  absl::StatusOr<std::shared_ptr<arrow::io::RandomAccessFile>> OpenFile(const std::string& key) {
    {
      MutexLock lock(mutex_);
      if (const auto found = files_.find(key); found != files_.end()) return found->second;
    }
    using File = std::shared_ptr<arrow::io::RandomAccessFile>;
    ASSIGN_OR_RETURN(File file, Get<File>("read", key, [arrow = arrow(), path = Path(key)] {
                       return arrow->OpenInputFile(path);
                     }));
    MutexLock lock(mutex_);
    if (files_.size() >= kOpenFiles) files_.erase(files_.begin());
    files_[key] = file;
    return file;
  }
  void CloseFile(const std::string& key) {
    MutexLock lock(mutex_);
    files_.erase(key);
  }

 private:
  static StallGuard::Options GuardOptions(const Options& options) {
    StallGuard::Options guarded;
    guarded.limit = options.stall_limit;
    guarded.on_abandoned = [observer = options.on_abandoned](int change) {
      hanging_threads += change;
      observer(change);
    };
    return guarded;
  }
  // What the guard itself says has no name yet.
  static absl::Status Named(const absl::Status& status, const std::string& what) {
    if (status.ok() || absl::StartsWith(status.message(), what)) return status;
    return absl::Status(status.code(), StrCat(what, ": ", ToStd(status.message())));
  }

  const ObjectFilesystem opened_;
  StallGuard guard_;
  KeyLocks locks_;
  Mutex mutex_;
  // Objects never change, so a file stays open for the next range: its size is known.
  std::map<std::string, std::shared_ptr<arrow::io::RandomAccessFile>> files_
      ABSL_GUARDED_BY(mutex_);
};

class ArrowStore::Writer final : public BlobWriter {
 public:
  Writer(std::shared_ptr<Bucket> bucket, std::string key)
      : bucket_(std::move(bucket)),
        key_(std::move(key)),
        scratch_(bucket_->can_abort() ? std::string()
                                      : bucket_->Path(StrCat(kTemporaryFolder, "/", RandomName()))),
        path_(bucket_->can_abort() ? bucket_->Path(key_) : scratch_ + "/object"),
        stream_(std::make_shared<ObjectStream>(bucket_->opened(), path_, scratch_)) {}

  ~Writer() override {
    if (sending_ != nullptr) (void)bucket_->guard().Finish(sending_);
    Discard();
  }

  absl::Status Append(std::string_view data) override {
    RETURN_IF_ERROR(usable_);
    usable_ = Take(data);
    return usable_;
  }

  absl::StatusOr<BlobReceipt> Commit() override {
    RETURN_IF_ERROR(usable_);
    usable_ =
        absl::FailedPreconditionError(StrCat("the writer of ", key_, " was committed already"));
    const BlobReceipt receipt{size_, hash_.Finish()};
    AddPart(std::move(rest_));
    RETURN_IF_ERROR(Send());
    RETURN_IF_ERROR(FinishSending());
    KeyLocks::Lock lock(bucket_->locks(), key_);
    ASSIGN_OR_RETURN(const bool taken, bucket_->Exists("write", key_));
    if (taken) return KeyTaken(bucket_->uri(), key_);
    RETURN_IF_ERROR(Publish());
    return receipt;
  }

 private:
  absl::Status Take(std::string_view data) {
    if (size_ + static_cast<int64_t>(data.size()) > kMaxObjectBytes) {
      return absl::ResourceExhaustedError(StrCat("cannot write ", key_, " in ", bucket_->uri(),
                                                 ": it would have more than ", kMaxObjectBytes,
                                                 " bytes, the most an object may have"));
    }
    hash_.Update(data);
    size_ += static_cast<int64_t>(data.size());
    while (!data.empty()) {
      const size_t taken =
          std::min(data.size(), static_cast<size_t>(2 * kPartBytes) - rest_.size());
      rest_.append(data.substr(0, taken));
      data.remove_prefix(taken);
      if (std::ssize(rest_) < 2 * kPartBytes) return absl::OkStatus();
      std::string next = rest_.substr(static_cast<size_t>(kPartBytes));
      rest_.resize(static_cast<size_t>(kPartBytes));
      AddPart(std::exchange(rest_, std::move(next)));
      if (std::ssize(batch_) == kBatchParts) RETURN_IF_ERROR(Send());
    }
    return absl::OkStatus();
  }

  void AddPart(std::string bytes) { batch_.push_back(arrow::Buffer::FromString(std::move(bytes))); }

  // Begins to send the batch once the one before has arrived.
  absl::Status Send() {
    RETURN_IF_ERROR(FinishSending());
    if (batch_.empty()) return absl::OkStatus();
    const bool small = size_ < kPartBytes;  // goes whole with Close
    several_ = several_ || !small;
    sending_ = bucket_->guard().Start([stream = stream_, batch = std::exchange(batch_, {}), small,
                                       what = bucket_->What("write", key_)] {
      return FromArrow(stream->Write(batch, !small), what);
    });
    return absl::OkStatus();
  }

  absl::Status FinishSending() {
    if (sending_ == nullptr) return absl::OkStatus();
    return Annotated(bucket_->guard().Finish(std::exchange(sending_, nullptr)));
  }

  absl::Status Annotated(const absl::Status& status) const {
    const std::string what = bucket_->What("write", key_);
    if (status.ok() || absl::StartsWith(status.message(), what)) return status;
    return absl::Status(status.code(), StrCat(what, ": ", ToStd(status.message())));
  }

  absl::Status Publish() {
    RETURN_IF_ERROR(bucket_->Run("write", key_, [stream = stream_] { return stream->Close(); }));
    if (bucket_->can_abort()) {
      // A request for all of an object is checked by the store; one that puts parts together is
      // not.
      return several_ ? bucket_->CheckSize(key_, path_, size_) : absl::OkStatus();
    }
    const absl::Status copied = CopyToKey();
    bucket_->RemoveFolder(scratch_);
    return copied;
  }

  absl::Status CopyToKey() {
    RETURN_IF_ERROR(bucket_->CheckSize(key_, path_, size_));
    const std::string to = bucket_->Path(key_);
    RETURN_IF_ERROR(bucket_->Run("publish", key_, [arrow = bucket_->arrow(), from = path_, to] {
      return arrow->CopyFile(from, to);
    }));
    return bucket_->CheckSize(key_, to, size_);
  }

  // In the guard's thread: the last to let go of a stream waits for the store. A call that was
  // given up still has it, and then it is the last.
  void Discard() {
    if (stream_.use_count() > 1) return stream_.reset();
    bucket_->guard()
        .Run([stream = std::exchange(stream_, nullptr)] {
          stream->Discard();
          return absl::OkStatus();
        })
        .IgnoreError();
  }

  const std::shared_ptr<Bucket> bucket_;
  const std::string key_;
  const std::string scratch_;  // a folder of its own, where there is no abort
  const std::string path_;
  std::shared_ptr<ObjectStream> stream_;
  Sha256 hash_;
  int64_t size_ = 0;
  bool several_ = false;  // parts were sent
  // Less than two parts. All of it is the last one: Arrow sends what is less than a part with
  // Close, after whose failure it can no longer abort.
  std::string rest_;
  Buffers batch_;
  std::shared_ptr<StallGuard::Task> sending_;
  absl::Status usable_;
};

ArrowStore::ArrowStore(std::shared_ptr<Bucket> bucket) : bucket_(std::move(bucket)) {}
ArrowStore::~ArrowStore() = default;

absl::StatusOr<std::unique_ptr<ArrowStore>> ArrowStore::Open(const std::string& uri,
                                                             const Options& options) {
  ASSIGN_OR_RETURN(ObjectFilesystem opened, OpenObjectFilesystem(uri));
  const auto bucket = std::make_shared<Bucket>(std::move(opened), options);
  const std::string root = bucket->root();
  ASSIGN_OR_RETURN(const FileInfo info, bucket->Info("open", "", root.substr(0, root.find('/'))));
  if (info.type() == FileType::NotFound) {
    return absl::FailedPreconditionError(
        StrCat("cannot open ", bucket->uri(), ": there is no bucket ",
               root.substr(0, root.find('/')), "; make it: the server makes none"));
  }
  bucket->RemoveLeftovers(absl::Now() - kLeftoverAge);
  return std::unique_ptr<ArrowStore>(new ArrowStore(bucket));
}

const std::string& ArrowStore::uri() const { return bucket_->uri(); }

absl::StatusOr<std::unique_ptr<BlobWriter>> ArrowStore::Create(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  ASSIGN_OR_RETURN(const bool taken, bucket_->Exists("write", key));
  if (taken) return KeyTaken(uri(), key);
  return std::make_unique<Writer>(bucket_, key);
}

absl::StatusOr<std::string> ArrowStore::Read(const std::string& key, int64_t offset,
                                             int64_t length) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  const auto file = bucket_->OpenFile(key);
  if (absl::IsNotFound(file.status())) return NoSuchObject(uri(), key);
  RETURN_IF_ERROR(file.status());
  const arrow::Result<int64_t> size = (*file)->GetSize();  // known since it was opened
  if (!size.ok()) return FromArrow(size.status(), bucket_->What("read", key));
  ASSIGN_OR_RETURN(const int64_t count, BytesInRange(uri(), key, *size, offset, length));
  if (count == 0) return std::string();
  using Bytes = std::shared_ptr<arrow::Buffer>;
  const auto bytes = bucket_->Get<Bytes>(
      "read", key, [file = *file, offset, count] { return file->ReadAt(offset, count); });
  if (!bytes.ok()) bucket_->CloseFile(key);
  if (absl::IsNotFound(bytes.status())) return NoSuchObject(uri(), key);
  RETURN_IF_ERROR(bytes.status());
  if ((*bytes)->size() != count) {
    return absl::DataLossError(StrCat("reading ", key, " in ", uri(), " gave ", (*bytes)->size(),
                                      " of ", count, " bytes from offset ", offset));
  }
  return (*bytes)->ToString();
}

absl::StatusOr<BlobInfo> ArrowStore::Head(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  ASSIGN_OR_RETURN(const FileInfo info, bucket_->Info("find", key, bucket_->Path(key)));
  if (info.type() != FileType::File) return NoSuchObject(uri(), key);
  return BlobInfo{key, info.size(), ModifiedTime(info)};
}

absl::StatusOr<std::vector<BlobInfo>> ArrowStore::List(const std::string& prefix,
                                                       const std::string& start_after,
                                                       int64_t limit) {
  if (limit < 0) return BadLimit(uri(), limit);
  const size_t slash = prefix.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : prefix.substr(0, slash);
  if (limit == 0 || (slash != std::string::npos && !CheckBlobKey(folder).ok())) {
    return std::vector<BlobInfo>();
  }
  ASSIGN_OR_RETURN(const std::vector<FileInfo> infos,
                   bucket_->ListFolder(folder.empty() ? bucket_->root() : bucket_->Path(folder)));
  std::map<std::string, BlobInfo> found;
  for (const FileInfo& info : infos) {
    if (info.type() != FileType::File) continue;
    std::string key = info.path().substr(bucket_->root().size() + 1);
    if (!absl::StartsWith(key, prefix) || key <= start_after || !CheckBlobKey(key).ok()) continue;
    found[key] = {key, info.size(), ModifiedTime(info)};
    if (std::ssize(found) > limit) found.erase(std::prev(found.end()));
  }
  std::vector<BlobInfo> list;
  for (auto& [key, info] : found) list.push_back(std::move(info));
  return list;
}

absl::Status ArrowStore::Delete(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  bucket_->CloseFile(key);
  const absl::Status deleted = bucket_->Run(
      "delete", key,
      [arrow = bucket_->arrow(), path = bucket_->Path(key)] { return arrow->DeleteFile(path); });
  return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::Status ArrowStore::Check() {
  return bucket_->Run(
      "write to", "", [opened = bucket_->opened(), path = bucket_->Path(kCheckKey)] {
        ObjectStream stream(opened, path, /*scratch=*/"");
        ARROW_RETURN_NOT_OK(stream.Write({arrow::Buffer::FromString("ok")}, /*wait=*/false));
        return stream.Close();
      });
}

void HurryObjectStorage(absl::Duration limit) { StallGuard::HurryAll(limit); }

bool FinalizeObjectStorage() {
  if (hanging_threads > 0) return false;
  return arrow::fs::EnsureS3Finalized().ok();
}

}  // namespace secateur
