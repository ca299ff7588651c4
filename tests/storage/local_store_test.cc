// What only a store in a folder has to get right; the rest is in blob_store_test.cc.
#include "server/storage/local_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "server/base/strings.h"
#include "tests/support/small_disk.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<LocalStore> Open(const std::string& folder) {
  return LocalStore::Open(folder).value();
}

std::vector<std::string> Keys(BlobStore& store) {
  std::vector<std::string> keys;
  const std::vector<BlobInfo> found = store.List("", "", 1000000).value();
  for (const BlobInfo& info : found) keys.push_back(info.key);
  return keys;
}

// The names in a folder, none if it is missing.
std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

// Runs `work` in a child process that is killed as soon as `work` has reported `reports` times (or
// has returned). Returns what was reported.
std::string RunAndKill(size_t reports,
                       const std::function<void(const std::function<void(char)>&)>& work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    work([&](char c) { (void)!write(ends[1], &c, 1); });
    _exit(0);
  }
  close(ends[1]);
  std::string reported;
  char c = 0;
  while (reported.size() < reports && read(ends[0], &c, 1) == 1) reported += c;
  kill(child, SIGKILL);
  while (read(ends[0], &c, 1) == 1) reported += c;  // it may have got further meanwhile
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return reported;
}

TEST(LocalStore, ShowsNothingOfAWriteThatWasKilledInTheMiddle) {
  const TempDir dir;
  const std::string root = dir.Join("store");
  const std::string reported = RunAndKill(1, [&](const auto& report) {
    const auto store = Open(root);
    const auto writer = store->Create("a/b").value();
    if (writer->Append(std::string(5 << 20, 'x')).ok()) report('w');
    pause();
  });
  ASSERT_EQ(reported, "w");
  EXPECT_THAT(NamesIn(root + "/.tmp"), testing::SizeIs(1));  // it did write
  const auto store = Open(root);
  EXPECT_THAT(Keys(*store), IsEmpty());
  EXPECT_THAT(store->Head("a/b"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(store->Put("a/b", "again"));
}

TEST(LocalStore, HasEveryAcknowledgedObjectAndNoHalfOneWheneverItsProcessIsKilled) {
  const TempDir dir;
  const auto bytes_of = [](size_t i) {
    return std::string(i % 3 == 0 ? 1500000 : 100, static_cast<char>('a' + i % 26));
  };
  for (size_t kill_after = 1; kill_after <= 12; ++kill_after) {
    const std::string root = dir.Join(StrCat("store", kill_after));
    const std::string acknowledged = RunAndKill(kill_after, [&](const auto& report) {
      const auto store = Open(root);
      for (size_t i = 0; i < 1000; ++i) {
        if (store->Put(StrCat("f", i % 4, "/", i), bytes_of(i)).ok()) report('+');
      }
    });
    ASSERT_GE(acknowledged.size(), kill_after);
    const auto store = Open(root);
    for (size_t i = 0; i < acknowledged.size(); ++i) {
      EXPECT_THAT(store->Head(StrCat("f", i % 4, "/", i)), IsOk());
    }
    for (const std::string& key : Keys(*store)) {
      const size_t i = std::stoul(key.substr(key.find('/') + 1));
      ASSERT_OK_AND_ASSIGN(const std::string read, store->ReadAll(key, 2000000));
      EXPECT_TRUE(read == bytes_of(i)) << key;
    }
  }
}

TEST(LocalStore, RemovesLeftoversOlderThanADayWhenItOpens) {
  const TempDir dir;
  dir.Write(".tmp/old", "x");
  dir.Write(".tmp/new", "x");
  const auto set_age = [&](const std::string& name, std::chrono::hours age) {
    fs::last_write_time(dir.Join(".tmp/" + name), fs::file_time_type::clock::now() - age);
  };
  set_age("old", std::chrono::hours(25));
  set_age("new", std::chrono::hours(23));
  const auto store = Open(dir.path());
  EXPECT_THAT(NamesIn(dir.Join(".tmp")), ElementsAre("new"));
  EXPECT_THAT(Keys(*store), IsEmpty());
}

TEST(LocalStore, LeavesOnlyItsObjectsBehind) {
  const TempDir dir;
  {
    const auto store = Open(dir.path());
    ASSERT_OK(store->Put("a/b", "1"));
    ASSERT_OK(store->Check());
    EXPECT_FALSE(store->Put("a/b", "2").ok());
    ASSERT_OK_AND_ASSIGN(const auto discarded, store->Create("c"));
    ASSERT_OK(discarded->Append(std::string(2 << 20, 'x')));
  }
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("a"));
  EXPECT_THAT(NamesIn(dir.Join("a")), ElementsAre("b"));
}

TEST(LocalStore, RemovesTheFoldersThatADeleteEmptied) {
  const TempDir dir;
  const auto store = Open(dir.path());
  ASSERT_OK(store->Put("a/b/c/d", "1"));
  ASSERT_OK(store->Put("a/x", "1"));
  ASSERT_OK(store->Delete("a/b/c/d"));
  EXPECT_THAT(NamesIn(dir.Join("a")), ElementsAre("x"));
}

TEST(LocalStore, TakesTheKeyOfAnEmptyFolderThatAKilledProcessLeft) {
  const TempDir dir;
  const auto store = Open(dir.path());
  fs::create_directories(dir.Join("a/b"));
  EXPECT_OK(store->Put("a/b", "1"));
  EXPECT_THAT(store->ReadAll("a/b", 10), IsOkAndHolds("1"));
}

TEST(LocalStore, MakesItsFolderAndThoseAboveIt) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto store, LocalStore::Open(dir.Join("x/y/z/")));
  EXPECT_EQ(store->uri(), "file:" + dir.Join("x/y/z"));
  ASSERT_OK(store->Put("a", "1"));
  EXPECT_EQ(store->LocalPath("a"), dir.Join("x/y/z/a"));
}

TEST(LocalStore, IsTheSameFolderForTwoStores) {
  const TempDir dir;
  const auto first = Open(dir.path());
  const auto second = Open(dir.path());
  ASSERT_OK(first->Put("a", "1"));
  EXPECT_THAT(second->ReadAll("a", 10), IsOkAndHolds("1"));
  EXPECT_THAT(second->Put("a", "2"), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST(LocalStore, RefusesAFolderThatIsNone) {
  const TempDir dir;
  const std::string file = dir.Write("file", "x");
  EXPECT_THAT(LocalStore::Open(file),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(file)));
  EXPECT_THAT(LocalStore::Open(file + "/below"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(file)));
  EXPECT_THAT(LocalStore::Open("relative"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("relative")));
  EXPECT_THAT(LocalStore::Open(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(LocalStore, NeverFollowsASymlinkBelowItsRoot) {
  const TempDir dir;
  const std::string secret = dir.Write("outside/secret", "secret");
  const std::string root = dir.Join("store");
  const auto store = Open(root);
  fs::create_symlink(secret, root + "/file");
  fs::create_symlink(dir.Join("outside"), root + "/folder");
  fs::create_symlink(dir.Join("outside/new"), root + "/dangling");

  EXPECT_THAT(Keys(*store), IsEmpty());
  for (const std::string key : {"file", "folder/secret", "dangling"}) {
    EXPECT_THAT(store->Head(key), StatusIs(absl::StatusCode::kNotFound, HasSubstr(key)));
    EXPECT_THAT(store->Read(key, 0, 6), StatusIs(absl::StatusCode::kNotFound, HasSubstr(key)));
    EXPECT_EQ(store->LocalPath(key), std::nullopt);
    EXPECT_OK(store->Delete(key));
    EXPECT_THAT(store->Put(key, "x"),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(key)));
  }
  EXPECT_THAT(store->Put("folder/new", "x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(NamesIn(dir.Join("outside")), ElementsAre("secret"));
  EXPECT_TRUE(fs::is_symlink(root + "/file"));
}

TEST(LocalStore, RefusesATemporaryFolderThatIsASymlink) {
  const TempDir dir;
  fs::create_directory(dir.Join("outside"));
  fs::create_directory(dir.Join("store"));
  fs::create_symlink(dir.Join("outside"), dir.Join("store/.tmp"));
  const auto store = Open(dir.Join("store"));
  EXPECT_THAT(store->Put("a", "x"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(".tmp")));
  EXPECT_FALSE(store->Check().ok());
}

TEST(LocalStore, SkipsFilesThatAreNoObjects) {
  const TempDir dir;
  const auto store = Open(dir.path());
  ASSERT_OK(store->Put("good", "1"));
  dir.Write("not a key", "x");
  dir.Write("lost+found/x", "x");
  ASSERT_EQ(mkfifo(dir.Join("pipe").c_str(), 0600), 0);
  EXPECT_THAT(Keys(*store), ElementsAre("good"));
  EXPECT_THAT(store->Read("pipe", 0, 1), StatusIs(absl::StatusCode::kNotFound));
}

// The system refuses a write in the middle: what it says comes back, and nothing stays.
TEST(LocalStore, TellsThatAFileMayNotGrowFurther) {
  const TempDir dir;
  const std::string root = dir.Join("store");
  const std::string reported = RunAndKill(2, [&](const auto& report) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{3 << 20, 3 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto store = Open(root);
    {
      const auto writer = store->Create("a").value();
      absl::Status status;
      for (int i = 0; i < 8 && status.ok(); ++i) status = writer->Append(std::string(1 << 20, 'x'));
      report(absl::IsResourceExhausted(status) ? 'e' : '?');
      // The part that is there must not be published.
      report(absl::IsResourceExhausted(writer->Commit().status()) ? 'e' : '?');
    }
  });
  EXPECT_EQ(reported, "ee");
  EXPECT_THAT(Keys(*Open(root)), IsEmpty());
}

TEST(LocalStore, SaysThatTheDiskIsFullAndKeepsNothing) {
  const TempDir dir;
  const SmallDisk disk(dir.Join("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  const auto store = Open(dir.Join("disk/store"));
  EXPECT_THAT(store->Put("big", std::string(2 << 20, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("big")));
  EXPECT_THAT(store->Put("big", std::string(2 << 20, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(store->uri())));
  EXPECT_THAT(Keys(*store), IsEmpty());
  EXPECT_THAT(NamesIn(dir.Join("disk/store/.tmp")), IsEmpty());
  EXPECT_OK(store->Put("small", "x"));  // the space was given back
}

TEST(LocalStore, ReadsButDoesNotWriteWhatIsReadOnly) {
  const TempDir dir;
  SmallDisk disk(dir.Join("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  const std::string root = dir.Join("disk/store");
  ASSERT_OK(Open(root)->Put("a", "1"));
  ASSERT_TRUE(disk.MakeReadOnly());
  const auto store = Open(root);
  EXPECT_THAT(store->ReadAll("a", 10), IsOkAndHolds("1"));
  EXPECT_THAT(Keys(*store), ElementsAre("a"));
  const auto refused = [&](const std::string& what) {
    return StatusIs(absl::StatusCode::kPermissionDenied,
                    AllOf(HasSubstr(what), HasSubstr(root), HasSubstr("Read-only file system")));
  };
  EXPECT_THAT(store->Put("b", "2"), refused("cannot write b"));
  EXPECT_THAT(store->Check(), refused("cannot write to"));
  EXPECT_THAT(store->Check().message(), HasSubstr("mount it writable"));
  EXPECT_THAT(store->Delete("a"), refused("cannot delete a"));
  EXPECT_THAT(LocalStore::Open(root + "/below"), refused("cannot make the folder"));
  EXPECT_THAT(LocalStore::Open(root + "/below").status().message(), HasSubstr("mount it writable"));
}

TEST(LocalStore, LosesNothingWhenItsFolderIsReadOnlyForAWhile) {
  const TempDir dir;
  SmallDisk disk(dir.Join("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  const auto store = Open(dir.Join("disk/store"));
  ASSERT_OK(store->Put("folder/before", "1"));
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, store->Create("folder/begun"));
    ASSERT_OK(writer->Append("2"));
    EXPECT_FALSE(disk.MakeReadOnly());  // the system waits for open files
    ASSERT_OK(writer->Commit());
  }
  ASSERT_TRUE(disk.MakeReadOnly());
  EXPECT_THAT(store->Put("folder/during", "3"), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(Keys(*store), ElementsAre("folder/before", "folder/begun"));
  ASSERT_TRUE(disk.MakeWritable());
  EXPECT_OK(store->Check());
  EXPECT_OK(store->Put("folder/during", "3"));
  EXPECT_THAT(store->ReadAll("folder/begun", 10), IsOkAndHolds("2"));
  EXPECT_THAT(NamesIn(dir.Join("disk/store/.tmp")), IsEmpty());
}

}  // namespace
}  // namespace secateur
