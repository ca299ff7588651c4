// What LocalStore acknowledged survives a loss of power: its system calls are recorded, and for
// each acknowledged object the file was synced before it got its name, and every folder on the way
// after that, before the answer. This program's own fsync() and so on stand before libc's; what
// does not come through them shows as a step that is missing.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "server/base/strings.h"
#include "server/storage/local_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int trace = -1;  // a pipe, in the child that is watched

std::string PathOf(int fd) {
  std::array<char, 4096> path;
  const ssize_t size = readlink(StrCat("/proc/self/fd/", fd).c_str(), path.data(), path.size());
  return size > 0 ? std::string(path.data(), static_cast<size_t>(size)) : "?";
}

std::string PathOf(int folder, const char* name) {
  return name[0] == '/' ? std::string(name) : PathOf(folder) + "/" + name;
}

// One line, whole: it is less than what a pipe takes at once.
void Note(const std::string& line) {
  if (trace >= 0) syscall(SYS_write, trace, (line + "\n").c_str(), line.size() + 1);
}

}  // namespace
}  // namespace secateur

using secateur::Note;
using secateur::PathOf;

extern "C" {

ssize_t write(int fd, const void* bytes, size_t size) {
  const ssize_t written = syscall(SYS_write, fd, bytes, size);
  if (secateur::trace >= 0) Note("write " + PathOf(fd));
  return written;
}
int fsync(int fd) {
  const auto result = static_cast<int>(syscall(SYS_fsync, fd));
  if (secateur::trace >= 0) Note("sync " + PathOf(fd));
  return result;
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  if (secateur::trace >= 0) {
    Note("name " + PathOf(to_folder, to) + " " + PathOf(from_folder, from));
  }
  return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) noexcept {
  if (secateur::trace >= 0) {
    Note("name " + PathOf(to_folder, to) + " " + PathOf(from_folder, from));
  }
  return static_cast<int>(syscall(SYS_linkat, from_folder, from, to_folder, to, flags));
}
int mkdirat(int folder, const char* name, mode_t mode) noexcept {
  if (secateur::trace < 0) return static_cast<int>(syscall(SYS_mkdirat, folder, name, mode));
  const std::string what = PathOf(folder, name) + " " + std::to_string(gettid());
  Note("making " + what);
  const auto result = static_cast<int>(syscall(SYS_mkdirat, folder, name, mode));
  if (result == 0) Note("made " + what);
  return result;
}
int mkdir(const char* path, mode_t mode) noexcept { return mkdirat(AT_FDCWD, path, mode); }
DIR* fdopendir(int fd) {
  static const auto next = reinterpret_cast<DIR* (*)(int)>(dlsym(RTLD_NEXT, "fdopendir"));
  if (secateur::trace >= 0) Note("names " + PathOf(fd));
  return next(fd);
}
int unlinkat(int folder, const char* name, int flags) noexcept {
  if (secateur::trace >= 0) Note("unlink " + PathOf(folder, name));
  return static_cast<int>(syscall(SYS_unlinkat, folder, name, flags));
}

}  // extern "C"

namespace secateur {
namespace {

struct Event {
  std::string what, path;
  std::string from;  // the old name; of a folder that is made the thread
};
using Events = std::vector<Event>;

// What a store in `root` does with small, large and concurrent objects.
void Work(const std::string& root) {
  const auto store = LocalStore::Open(root).value();
  const auto put = [&](const std::string& key, size_t size) {
    if (store->Put(key, std::string(size, 'x')).ok()) Note("stored " + root + "/" + key);
  };
  put("top", 10);
  put("a/b/large", 5 << 20);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&put, thread] {
      for (int i = 0; i < 10; ++i) put(StrCat("shared/", i % 3, "/", thread, "-", i), 100);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const char* key : {"top", "a/b/large"}) {
    if (store->Delete(key).ok()) Note("deleted " + root + "/" + key);
  }
}

void ListOneFolder(const std::string& root) {
  const auto store = LocalStore::Open(root).value();
  for (int i = 0; i < 3; ++i) store->Put(StrCat("many/", i, "/object"), "x").value();
  Note("listing");
  EXPECT_EQ(store->List("many/1/", "", 10)->size(), 1);
  Note("listed");
}

// In a process of its own, with a bug planted or none ("").
Events Record(const std::string& root, const char* bug,
              void (*work)(const std::string& root) = Work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    setenv("SECATEUR_SEEDED_BUG", bug, 1);
    trace = ends[1];
    work(root);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 65536> piece;
  for (ssize_t n; (n = read(ends[0], piece.data(), piece.size())) > 0;) {
    text.append(piece.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  Events events;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Event event;
    std::istringstream(line) >> event.what >> event.path >> event.from;
    events.push_back(event);
  }
  return events;
}

// The place of the last such event before `before`; -1 without.
int Last(const Events& events, const std::string& what, const std::string& path, int before) {
  for (int i = before; i-- > 0;) {
    const Event& event = events[static_cast<size_t>(i)];
    if (event.what == what && event.path == path) return i;
  }
  return -1;
}

// When a folder began to be made that was made before `before`; -1 if it was there. Other threads
// may have found and synced it before its maker said so.
int Made(const Events& events, const std::string& path, int before) {
  const int made = Last(events, "made", path, before);
  int making = made;
  do {
    making = Last(events, "making", path, making);
  } while (making >= 0 &&
           events[static_cast<size_t>(making)].from != events[static_cast<size_t>(made)].from);
  return making;
}

bool IsSynced(const Events& events, const std::string& path, int after, int before) {
  return Last(events, "sync", path, before) > after;
}

// Why the object that is acknowledged at `now` may be gone after a loss of power.
std::vector<std::string> Gaps(const Events& events, const std::string& path, int now) {
  std::vector<std::string> gaps;
  const int named = Last(events, "name", path, now);
  if (named < 0) return {path + " has no name"};
  const std::string file = events[static_cast<size_t>(named)].from;
  const int written = Last(events, "write", file, named);
  if (written < 0) gaps.push_back(path + " was not seen to be written");
  if (!IsSynced(events, file, written, named)) {
    gaps.push_back(path + " got its name before its bytes were synced");
  }
  int changed = named;
  for (fs::path entry = path; changed >= 0 || entry.has_relative_path();
       entry = entry.parent_path()) {
    const std::string folder = entry.parent_path();
    if (changed >= 0 && !IsSynced(events, folder, changed, now)) {
      gaps.push_back(entry.string() + " was not synced in its folder");
    }
    changed = Made(events, folder, now);
  }
  return gaps;
}

// Of all that was acknowledged.
std::vector<std::string> AllGaps(const Events& events, int* acknowledged) {
  std::vector<std::string> all;
  for (int i = 0; i < std::ssize(events); ++i) {
    const Event& event = events[static_cast<size_t>(i)];
    if (event.what == "stored") {
      const std::vector<std::string> gaps = Gaps(events, event.path, i);
      all.insert(all.end(), gaps.begin(), gaps.end());
    } else if (event.what == "deleted") {
      const std::string folder = fs::path(event.path).parent_path();
      if (!IsSynced(events, folder, Last(events, "unlink", event.path, i), i)) {
        all.push_back(event.path + " may come back");
      }
    } else {
      continue;
    }
    ++*acknowledged;
  }
  return all;
}

TEST(Durability, EveryAnswerComesAfterTheFilesSyncItsNameAndTheFoldersSync) {
  const TempDir dir;
  int acknowledged = 0;
  EXPECT_THAT(AllGaps(Record(dir.Join("new/store"), ""), &acknowledged), IsEmpty());
  EXPECT_EQ(acknowledged, 44);
}

// A store has thousands of operations, and lists one at a time.
TEST(Listing, ReadsOnlyFoldersThatThePrefixNames) {
  const TempDir dir;
  std::vector<std::string> read;
  bool listing = false;
  for (const Event& event : Record(dir.Join("store"), "", ListOneFolder)) {
    listing = listing ? event.what != "listed" : event.what == "listing";
    if (listing && event.what == "names") read.push_back(event.path);
  }
  EXPECT_THAT(read, ElementsAre(dir.Join("store/many/1")));
}

TEST(Durability, ADroppedSyncOfAFileIsSeen) {
  const TempDir dir;
  int acknowledged = 0;
  const auto gaps = AllGaps(Record(dir.Join("new/store"), "drop_file_fsync"), &acknowledged);
  EXPECT_EQ(acknowledged, 44);
  EXPECT_EQ(gaps.size(), 42u);
  EXPECT_THAT(gaps, Each(HasSubstr("before its bytes were synced")));
}

TEST(Durability, ADroppedSyncOfAFolderIsSeen) {
  const TempDir dir;
  int acknowledged = 0;
  const auto gaps = AllGaps(Record(dir.Join("new/store"), "drop_folder_fsync"), &acknowledged);
  EXPECT_EQ(acknowledged, 44);
  EXPECT_THAT(gaps, Contains(HasSubstr("top was not synced in its folder")));
  EXPECT_THAT(gaps, Contains(HasSubstr("/a was not synced in its folder")));
  EXPECT_THAT(gaps, Contains(HasSubstr("/new was not synced in its folder")));
  EXPECT_THAT(gaps, Contains(HasSubstr("large may come back")));
}

}  // namespace
}  // namespace secateur
