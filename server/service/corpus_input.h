// A file or an object of a bucket, read from its beginning, as CreateCorpus does. It belongs to
// others, who may change it meanwhile. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/object_storage/open_store.h"
#include "server/storage/blob_store.h"
#include "server/storage/file_descriptor.h"

namespace secateur {

class CorpusInput {
 public:
  // `uri` as UriAllowList::Resolve gives it. NOT_FOUND, and errors as the file system or the bucket
  // says, for a symlink, too; INVALID_ARGUMENT for what is no regular file. An object's name is a
  // key as blob_store.h has it.
  static absl::StatusOr<CorpusInput> Open(const std::string& uri, const StoreOptions& options);

  int64_t size() const { return size_; }  // bytes
  const std::string& name() const { return name_; }
  // At most `length` bytes; fewer only at size(). DATA_LOSS when it became shorter than that.
  absl::StatusOr<std::string> Read(int64_t offset, int64_t length);

 private:
  static absl::StatusOr<CorpusInput> OpenFile(const std::string& uri);
  static absl::StatusOr<CorpusInput> OpenObject(const std::string& uri,
                                                const StoreOptions& options);

  std::string name_;  // for messages: a path, or a URI without options
  int64_t size_ = 0;
  FileDescriptor file_;
  std::unique_ptr<BlobStore> store_;  // of the object's folder
  std::string key_;
};

}  // namespace secateur
