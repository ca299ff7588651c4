// A BlobStore in a folder of this machine: the object "a/b" is the file ROOT/a/b.
//
// A writer fills a file in ROOT/.tmp and hashes the bytes on the way; Commit syncs it, renames it
// to its key unless that is taken, and syncs every folder from there up to the root, so that an
// object that Commit acknowledged survives a loss of power. What a killed process leaves in .tmp is
// never listed and is removed by an Open a day later. Delete also removes the folders it emptied.
// Files and folders get the permissions that the process's umask leaves.
//
// Nothing below the root is reached through a symlink: each part of a key is opened by itself.
// Thread-safe, also between processes that share the folder.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/clock.h"
#include "server/storage/blob_store.h"
#include "server/storage/file_descriptor.h"

namespace secateur {

class LocalStore final : public BlobStore {
 public:
  // `folder` is absolute; it and what is missing above it are made. PERMISSION_DENIED,
  // FAILED_PRECONDITION (it is a file) and so on as the system says. `clock` tells how old
  // leftovers are, of which those of more than a day go if `remove_leftovers`.
  static absl::StatusOr<std::unique_ptr<LocalStore>> Open(const std::string& folder,
                                                          const Clock& clock = Clock::System(),
                                                          bool remove_leftovers = true);
  ~LocalStore() override;

  const std::string& uri() const override { return uri_; }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override;
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset, int64_t length) override;
  absl::StatusOr<BlobInfo> Head(const std::string& key) override;
  // Reads every folder that can hold a match, and one folder's names at a time.
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override;
  absl::Status Delete(const std::string& key) override;
  std::optional<std::string> LocalPath(const std::string& key) override;
  // Writes a byte to a file in .tmp and removes it.
  absl::Status Check() override;
  // Of the file system, as df counts: used by 95 %.
  absl::Status CheckRoom() override;

 private:
  class Writer;
  // A file in .tmp.
  struct Temporary {
    FileDescriptor folder;  // .tmp
    std::string name;
    FileDescriptor file;
  };
  // The folders of a key that exist, the root first, and its last part.
  struct Place {
    std::vector<FileDescriptor> folders;
    std::vector<std::string> parts;
    int parent() const { return folders.back().get(); }
    const char* leaf() const { return parts.back().c_str(); }
  };

  LocalStore(std::string folder, FileDescriptor root);

  absl::StatusOr<Temporary> MakeTemporary() const;
  void RemoveLeftovers(absl::Time before) const;
  // Opens the folders of `key`, making them if `make`. NOT_FOUND if one is missing (or was removed
  // meanwhile), FAILED_PRECONDITION if something else is in its place.
  absl::StatusOr<Place> Find(const std::string& key, bool make) const;
  // Find for readers: nothing but an object counts, all else is NOT_FOUND. Checks the key.
  absl::StatusOr<Place> FindObject(const std::string& key) const;
  absl::StatusOr<BlobInfo> Stat(const std::string& key, const Place& place) const;
  // OK when nothing is at `place`; removes an empty folder there.
  absl::Status CheckFree(const std::string& key, const Place& place) const;
  absl::Status Publish(const std::string& key, const Temporary& temporary) const;
  absl::Status SyncFolders(const std::string& key, const Place& place) const;

  const std::string folder_;
  const std::string uri_;
  const FileDescriptor root_;
};

}  // namespace secateur
