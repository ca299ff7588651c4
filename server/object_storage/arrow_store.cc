#include "server/object_storage/arrow_store.h"

#include <arrow/filesystem/s3fs.h>

#include <map>
#include <utility>

#include "server/object_storage/bucket.h"
#include "server/object_storage/object_stream.h"
#include "server/object_storage/object_writer.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

using arrow::fs::FileInfo;
using arrow::fs::FileType;

constexpr absl::Duration kLeftoverAge = absl::Hours(24);

StallGuard::Options GuardOptions(const ArrowStore::Options& options) {
  StallGuard::Options guarded;
  guarded.limit = options.stall_limit;
  guarded.on_abandoned = options.on_abandoned;
  return guarded;
}

}  // namespace

ArrowStore::ArrowStore(std::shared_ptr<Bucket> bucket) : bucket_(std::move(bucket)) {}
ArrowStore::~ArrowStore() = default;

absl::StatusOr<std::unique_ptr<ArrowStore>> ArrowStore::Open(const std::string& uri,
                                                             const Options& options) {
  if (const int hanging = HangingThreads(); hanging >= kMostHanging) {
    return absl::UnavailableError(
        StrCat("cannot open the store ", ShownUri(uri), ": ", hanging,
               " calls to buckets have not come back; no more buckets are opened"));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Bucket> bucket, Bucket::Open(uri, GuardOptions(options)));
  const std::string root = bucket->root();
  ASSIGN_OR_RETURN(const FileInfo info, bucket->Info("open", "", root.substr(0, root.find('/'))));
  if (info.type() == FileType::NotFound) {
    return absl::FailedPreconditionError(
        StrCat("cannot open ", bucket->uri(), ": there is no bucket ",
               root.substr(0, root.find('/')), "; make it: the server makes none"));
  }
  if (options.remove_leftovers) bucket->RemoveLeftovers(absl::Now() - kLeftoverAge);
  return std::unique_ptr<ArrowStore>(new ArrowStore(bucket));
}

const std::string& ArrowStore::uri() const { return bucket_->uri(); }

absl::StatusOr<std::unique_ptr<BlobWriter>> ArrowStore::Create(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  ASSIGN_OR_RETURN(const bool taken, bucket_->Exists("write", key));
  if (taken) return KeyTaken(uri(), key);
  return MakeObjectWriter(bucket_, key);
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
  // Read to its end, most likely; and another may be made under its name later.
  if (offset + count == *size) bucket_->CloseFile(key);
  if (count == 0) return std::string();
  using Bytes = std::shared_ptr<arrow::Buffer>;
  const auto bytes = bucket_->Get<Bytes>(
      "read", key, [file = *file, offset, count] { return file->ReadAt(offset, count); });
  if (!bytes.ok()) bucket_->CloseFile(key);
  if (absl::IsNotFound(bytes.status())) return NoSuchObject(uri(), key);
  RETURN_IF_ERROR(bytes.status());
  if ((*bytes)->size() != count) {
    bucket_->CloseFile(key);  // its size may be that of other bytes
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
  if (HangingThreads() > 0) return false;
  return arrow::fs::EnsureS3Finalized().ok();
}

}  // namespace secateur
