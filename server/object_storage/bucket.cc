#include "server/object_storage/bucket.h"

#include <atomic>

namespace secateur {
namespace {

using arrow::fs::FileInfo;
using arrow::fs::FileType;

constexpr size_t kOpenFiles = 64;

std::atomic<int> hanging_threads{0};

StallGuard::Options Counted(StallGuard::Options options) {
  options.on_abandoned = [observer = std::move(options.on_abandoned)](int change) {
    hanging_threads += change;
    observer(change);
  };
  return options;
}

}  // namespace

int HangingThreads() { return hanging_threads; }

absl::Time ModifiedTime(const FileInfo& info) {
  return absl::FromTimeT(std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(info.mtime())));
}

absl::StatusOr<std::shared_ptr<Bucket>> Bucket::Open(const std::string& uri,
                                                     const StallGuard::Options& options) {
  StallGuard guard(Counted(options));
  auto opened = guard.Get<ObjectFilesystem>([uri] { return OpenObjectFilesystem(uri); });
  if (absl::IsUnavailable(opened.status())) {
    return Named(opened.status(), StrCat("cannot open the store ", ShownUri(uri)));
  }
  RETURN_IF_ERROR(opened.status());
  return std::make_shared<Bucket>(*std::move(opened), options);
}

Bucket::Bucket(ObjectFilesystem opened, StallGuard::Options options)
    : opened_(std::move(opened)), guard_(Counted(std::move(options))) {}

absl::StatusOr<bool> Bucket::Exists(std::string_view verb, const std::string& key) {
  absl::Status opened = Run(verb, key, [arrow = arrow(), path = Path(key)] {
    return arrow->OpenInputFile(path).status();
  });
  if (opened.ok()) return true;
  if (absl::IsNotFound(opened)) return false;
  return opened;
}

absl::Status Bucket::CheckSize(const std::string& key, const std::string& path, int64_t size) {
  ASSIGN_OR_RETURN(const FileInfo info, Info("check", key, path));
  if (info.type() == FileType::File && info.size() == size) return absl::OkStatus();
  return absl::DataLossError(StrCat("the object ", key, " in ", uri(), " has ",
                                    info.type() == FileType::File ? info.size() : 0,
                                    " bytes after ", size, " were written"));
}

absl::StatusOr<std::vector<FileInfo>> Bucket::ListFolder(const std::string& path) {
  arrow::fs::FileSelector selector;
  selector.base_dir = path;
  selector.recursive = true;
  selector.allow_not_found = true;
  return Get<std::vector<FileInfo>>(
      "list", "", [arrow = arrow(), selector] { return arrow->GetFileInfo(selector); });
}

void Bucket::RemoveLeftovers(absl::Time before) {
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

void Bucket::RemoveFolder(const std::string& path) {
  Run("clean up", "", [arrow = arrow(), path] { return arrow->DeleteDir(path); }).IgnoreError();
}

absl::StatusOr<std::shared_ptr<arrow::io::RandomAccessFile>> Bucket::OpenFile(
    const std::string& key) {
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

void Bucket::CloseFile(const std::string& key) {
  MutexLock lock(mutex_);
  files_.erase(key);
}

}  // namespace secateur
