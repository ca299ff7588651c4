#include "server/storage/local_store.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/crash_point.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/storage/file_uri.h"
#include "server/storage/hashing_file.h"
#include "server/storage/local_folder.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

constexpr char kTemporaryFolder[] = ".tmp";
constexpr double kFull = 0.95;
constexpr absl::Duration kLeftoverAge = absl::Hours(24);
// How often a folder may vanish between two calls, by a Delete that emptied it, before we give up.
constexpr int kTries = 100;

std::string RandomName() {
  std::array<char, 16> bytes;
  // Cannot fail for so few bytes; were the name not unique, O_EXCL would tell.
  [[maybe_unused]] const ssize_t n = getrandom(bytes.data(), bytes.size(), 0);
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

absl::Status WithAdvice(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status)) return status;
  return absl::PermissionDeniedError(
      StrCat(status.message(), "; mount it writable and let the server's user write there"));
}

}  // namespace

class LocalStore::Writer final : public BlobWriter {
 public:
  Writer(const LocalStore& store, std::string key, Temporary temporary)
      : store_(store),
        key_(std::move(key)),
        temporary_(std::move(temporary)),
        file_(std::move(temporary_.file)) {}
  ~Writer() override {
    // Of a published object this name is gone.
    unlinkat(temporary_.folder.get(), temporary_.name.c_str(), 0);
  }

  absl::Status Append(std::string_view data) override {
    RETURN_IF_ERROR(usable_);
    usable_ = Named(file_.Append(data));
    CrashPoint("store.append");
    return usable_;
  }

  absl::StatusOr<BlobReceipt> Commit() override {
    RETURN_IF_ERROR(usable_);
    usable_ = Named(absl::FailedPreconditionError("the writer was committed already"));
    CrashPoint("store.before_sync");
    absl::StatusOr<BlobReceipt> receipt = file_.Sync();
    if (!receipt.ok()) return Named(receipt.status());
    CrashPoint("store.before_rename");
    RETURN_IF_ERROR(store_.Publish(key_, temporary_));
    CrashPoint("store.after_commit");
    return receipt;
  }

 private:
  absl::Status Named(const absl::Status& status) const {
    return Annotate(status, StrCat("cannot write ", key_, " in ", store_.uri()));
  }

  const LocalStore& store_;
  const std::string key_;
  Temporary temporary_;
  HashingFile file_;
  absl::Status usable_;  // an error once nothing more may be written
};

absl::StatusOr<std::unique_ptr<LocalStore>> LocalStore::Open(const std::string& folder,
                                                             const Clock& clock,
                                                             bool remove_leftovers) {
  std::string path = folder;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path.empty() || path[0] != '/') {
    return absl::InvalidArgumentError(
        StrCat("the store's folder \"", path, "\" is not an absolute path"));
  }
  RETURN_IF_ERROR(WithAdvice(MakeFolders(path)));
  FileDescriptor root = OpenFolder(AT_FDCWD, path + "/.");
  if (!root.valid()) return ErrnoStatus(errno, StrCat("cannot open the store's folder ", path));
  auto store = std::unique_ptr<LocalStore>(new LocalStore(std::move(path), std::move(root)));
  if (remove_leftovers) store->RemoveLeftovers(clock.Now() - kLeftoverAge);
  return store;
}

LocalStore::LocalStore(std::string folder, FileDescriptor root)
    : folder_(std::move(folder)), uri_(PathToFileUri(folder_)), root_(std::move(root)) {}

LocalStore::~LocalStore() {
  unlinkat(root_.get(), kTemporaryFolder, AT_REMOVEDIR);  // stays while it holds something
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalStore::Create(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  const absl::StatusOr<Place> place = Find(key, /*make=*/false);
  if (place.ok()) {
    RETURN_IF_ERROR(CheckFree(key, *place));
  } else if (!absl::IsNotFound(place.status())) {
    return place.status();
  }
  absl::StatusOr<Temporary> temporary = MakeTemporary();
  if (!temporary.ok()) {
    return Annotate(temporary.status(), StrCat("cannot write ", key, " in ", uri_));
  }
  return std::make_unique<Writer>(*this, key, *std::move(temporary));
}

absl::StatusOr<std::string> LocalStore::Read(const std::string& key, int64_t offset,
                                             int64_t length) {
  ASSIGN_OR_RETURN(const Place place, FindObject(key));
  // O_NONBLOCK: opening a named pipe would wait for its writer.
  const FileDescriptor file(
      openat(place.parent(), place.leaf(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid() && (errno == ENOENT || errno == ELOOP)) return NoSuchObject(uri_, key);
  if (!file.valid()) return ErrnoStatus(errno, StrCat("cannot open ", key, " in ", uri_));
  struct stat info;
  if (fstat(file.get(), &info) != 0) {
    return ErrnoStatus(errno, StrCat("cannot stat ", key, " in ", uri_));
  }
  if (!S_ISREG(info.st_mode)) return NoSuchObject(uri_, key);
  ASSIGN_OR_RETURN(const int64_t count, BytesInRange(uri_, key, info.st_size, offset, length));
  absl::StatusOr<std::string> bytes = ReadRange(file.get(), offset, count);
  if (!bytes.ok()) return Annotate(bytes.status(), StrCat(key, " in ", uri_));
  return bytes;
}

absl::StatusOr<BlobInfo> LocalStore::Head(const std::string& key) {
  ASSIGN_OR_RETURN(const Place place, FindObject(key));
  return Stat(key, place);
}

absl::StatusOr<std::vector<BlobInfo>> LocalStore::List(const std::string& prefix,
                                                       const std::string& start_after,
                                                       int64_t limit) {
  if (limit < 0) return BadLimit(uri_, limit);
  auto found = ListObjects(root_.get(), prefix, start_after, limit);
  if (!found.ok()) return Annotate(found.status(), StrCat("cannot list ", uri_));
  return found;
}

absl::Status LocalStore::Delete(const std::string& key) {
  const absl::StatusOr<Place> place = FindObject(key);
  const absl::Status found = place.ok() ? Stat(key, *place).status() : place.status();
  if (absl::IsNotFound(found)) return absl::OkStatus();
  RETURN_IF_ERROR(found);
  if (unlinkat(place->parent(), place->leaf(), 0) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("cannot delete ", key, " in ", uri_));
  }
  if (const int error = SyncFolder(place->parent())) {
    return ErrnoStatus(error, StrCat("cannot sync the folder of ", key, " in ", uri_));
  }
  for (size_t i = place->folders.size() - 1; i > 0; --i) {
    if (unlinkat(place->folders[i - 1].get(), place->parts[i - 1].c_str(), AT_REMOVEDIR) != 0)
      break;
  }
  return absl::OkStatus();
}

std::optional<std::string> LocalStore::LocalPath(const std::string& key) {
  if (!Head(key).ok()) return std::nullopt;
  return StrCat(folder_, "/", key);
}

absl::Status LocalStore::Check() {
  const absl::StatusOr<Temporary> temporary = MakeTemporary();
  if (!temporary.ok()) return Annotate(temporary.status(), StrCat("cannot write to ", uri_));
  const ssize_t n = write(temporary->file.get(), "", 1);
  const int error = errno;
  unlinkat(temporary->folder.get(), temporary->name.c_str(), 0);
  return n == 1 ? absl::OkStatus() : ErrnoStatus(error, StrCat("cannot write to ", uri_));
}

absl::Status LocalStore::CheckRoom() {
  struct statvfs info;
  if (fstatvfs(root_.get(), &info) != 0) return ErrnoStatus(errno, StrCat("cannot stat ", uri_));
  const auto used = static_cast<double>(info.f_blocks - info.f_bfree);
  const double all = used + static_cast<double>(info.f_bavail);
  if (used <= kFull * all) return absl::OkStatus();
  return WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                        "the disk of the store %s is %.1f %% full; no new work is taken beyond "
                        "%.0f %%: delete experts or make room",
                        uri_, 100 * used / all, 100 * kFull)),
                    "STORE_FULL");
}

absl::StatusOr<LocalStore::Temporary> LocalStore::MakeTemporary() const {
  for (int i = 0; i < kTries; ++i) {
    if (mkdirat(root_.get(), kTemporaryFolder, 0777) != 0 && errno != EEXIST) {
      return WithAdvice(ErrnoStatus(errno, "cannot make the folder .tmp"));
    }
    Temporary temporary{{}, RandomName(), {}};
    temporary.folder = OpenFolder(root_.get(), kTemporaryFolder);
    int error = errno;
    if (temporary.folder.valid()) {
      temporary.file = FileDescriptor(openat(temporary.folder.get(), temporary.name.c_str(),
                                             O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      error = errno;
      if (temporary.file.valid()) return temporary;
    }
    // ENOENT: another process closed the store and removed the empty folder.
    if (error != ENOENT) return WithAdvice(ErrnoStatus(error, "cannot make a file in .tmp"));
  }
  return absl::UnavailableError("the folder .tmp is removed again and again");
}

void LocalStore::RemoveLeftovers(absl::Time before) const {
  const FileDescriptor folder = OpenFolder(root_.get(), kTemporaryFolder);
  if (!folder.valid()) return;
  const auto entries = ReadFolder(folder.get());
  if (!entries.ok()) return;  // they take space only; the next Open tries again
  for (const FolderEntry& entry : *entries) {
    struct stat info;
    const bool old = fstatat(folder.get(), entry.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                     absl::TimeFromTimespec(info.st_mtim) < before;
    if (old) unlinkat(folder.get(), entry.name.c_str(), 0);
  }
}

absl::StatusOr<LocalStore::Place> LocalStore::Find(const std::string& key, bool make) const {
  Place place;
  place.parts = absl::StrSplit(key, '/');
  place.folders.push_back(OpenFolder(root_.get(), "."));
  for (size_t i = 0; place.folders.back().valid() && i + 1 < place.parts.size(); ++i) {
    const std::string& part = place.parts[i];
    if (make && mkdirat(place.parent(), part.c_str(), 0777) != 0 && errno != EEXIST) {
      if (errno == ENOENT) return NoSuchObject(uri_, key);
      return ErrnoStatus(errno, StrCat("cannot make the folder of ", key, " in ", uri_));
    }
    place.folders.push_back(OpenFolder(place.parent(), part));
  }
  if (place.folders.back().valid()) return place;
  if (errno == ENOENT) return NoSuchObject(uri_, key);
  if (errno == ENOTDIR) return KeyAboveOrBelowTaken(uri_, key);
  return ErrnoStatus(errno, StrCat("cannot open the folder of ", key, " in ", uri_));
}

absl::StatusOr<LocalStore::Place> LocalStore::FindObject(const std::string& key) const {
  RETURN_IF_ERROR(CheckBlobKey(key));
  absl::StatusOr<Place> place = Find(key, /*make=*/false);
  if (absl::IsFailedPrecondition(place.status())) return NoSuchObject(uri_, key);
  return place;
}

absl::StatusOr<BlobInfo> LocalStore::Stat(const std::string& key, const Place& place) const {
  struct stat info;
  if (fstatat(place.parent(), place.leaf(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return NoSuchObject(uri_, key);
    return ErrnoStatus(errno, StrCat("cannot stat ", key, " in ", uri_));
  }
  if (!S_ISREG(info.st_mode)) return NoSuchObject(uri_, key);
  return BlobInfo{key, info.st_size, absl::TimeFromTimespec(info.st_mtim)};
}

absl::Status LocalStore::CheckFree(const std::string& key, const Place& place) const {
  struct stat info;
  if (fstatat(place.parent(), place.leaf(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("cannot stat ", key, " in ", uri_));
  }
  if (S_ISREG(info.st_mode)) return KeyTaken(uri_, key);
  const bool removed =
      S_ISDIR(info.st_mode) && unlinkat(place.parent(), place.leaf(), AT_REMOVEDIR) == 0;
  return removed ? absl::OkStatus() : KeyAboveOrBelowTaken(uri_, key);
}

absl::Status LocalStore::Publish(const std::string& key, const Temporary& temporary) const {
  for (int i = 0; i < kTries; ++i) {
    const absl::StatusOr<Place> place = Find(key, /*make=*/true);
    if (absl::IsNotFound(place.status())) continue;  // a Delete emptied and removed the folder
    RETURN_IF_ERROR(place.status());
    const int error = RenameNoReplace(temporary.folder.get(), temporary.name.c_str(),
                                      place->parent(), place->leaf());
    if (error == 0) {
      CrashPoint("store.before_folder_sync");
      return SyncFolders(key, *place);
    }
    if (error == EEXIST) {
      RETURN_IF_ERROR(CheckFree(key, *place));
    } else if (error != ENOENT) {
      return ErrnoStatus(error, StrCat("cannot publish ", key, " in ", uri_));
    }
  }
  return absl::UnavailableError(
      StrCat("cannot publish ", key, " in ", uri_,
             ": its folder, or its file in .tmp, is removed again and again"));
}

absl::Status LocalStore::SyncFolders(const std::string& key, const Place& place) const {
  // All of them, also those that another writer made: it may not have synced them yet.
  for (size_t i = place.folders.size(); i-- > 0;) {
    const int error = SyncFolder(place.folders[i].get());
    if (error == 0) continue;
    // Not acknowledged, so it should not be there; a second attempt would find the key taken.
    unlinkat(place.parent(), place.leaf(), 0);
    return ErrnoStatus(error, StrCat("cannot sync the folders of ", key, " in ", uri_));
  }
  return absl::OkStatus();
}

}  // namespace secateur
