#include "server/storage/uri_allow_list.h"

#include <filesystem>
#include <string>

#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/storage/file_uri.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFlag[] = "--allow-read";

TEST(FileUri, GivesThePath) {
  const std::pair<const char*, const char*> cases[] = {
      {"file:/data/store", "/data/store"},
      {"file:///data/store", "/data/store"},
      {"file://localhost/data/store", "/data/store"},
      {"file://LOCALHOST/", "/"},
      {"FILE:/a", "/a"},
      {"file:/a%20b%25c", "/a b%c"},
      {"file:/%c3%A9", "/\xC3\xA9"},
      {"file:/a+b&c=d", "/a+b&c=d"},
      {"file:/a/%2e%2e/b", "/a/../b"},
      {"file:/a/../b/", "/a/../b/"},
  };
  for (const auto& [uri, path] : cases) EXPECT_THAT(FileUriToPath(uri), IsOkAndHolds(path)) << uri;
}

TEST(FileUri, RefusesWhatIsNoFileOfThisMachine) {
  const std::string bad[] = {"",
                             "/data",
                             "data",
                             "file:",
                             "file:data",
                             "file://",
                             "file://host/data",
                             "file://host",
                             "file://user@localhost/data",
                             "file://localhost:80/x",
                             "file:/a?b",
                             "file:/a#b",
                             "file:/a%",
                             "file:/a%2",
                             "file:/a%zz",
                             "file:/a%2Fb",
                             "file:/a%00b",
                             "file:/%ff",
                             "file:/\xff",
                             std::string("file:/a\0b", 9),
                             "file:/" + std::string(5000, 'x')};
  for (const std::string& uri : bad) {
    const auto path = FileUriToPath(uri);
    EXPECT_THAT(path, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("URI"))) << uri;
    EXPECT_EQ(FirstInvalidUtf8(ToStd(path.status().message())), std::nullopt) << uri;
  }
  EXPECT_THAT(FileUriToPath("s3://bucket/x"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("s3")));
}

TEST(FileUri, ComesBackFromAnyPath) {
  for (const std::string path : {"/", "/data/store", "/a b/%/#?/\xC3\xA9/~_-.+:@"}) {
    EXPECT_THAT(FileUriToPath(PathToFileUri(path)), IsOkAndHolds(path));
  }
  EXPECT_EQ(PathToFileUri("/a b/\xC3\xA9"), "file:/a%20b/%C3%A9");
}

// Two folders, of which requests may touch the first: data/ and database/.
class AllowList : public testing::Test {
 protected:
  AllowList() {
    dir_.Write("data/in.jsonl", "x");
    dir_.Write("data/sub folder/in.jsonl", "x");
    dir_.Write("database/secret", "x");
    list_ = UriAllowList::Create({Uri("data")}).value();
  }

  std::string Uri(const std::string& path) const { return "file:" + dir_.Join(path); }
  auto Denied() const { return StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(kFlag)); }

  const TempDir dir_;
  UriAllowList list_;
};

TEST_F(AllowList, ResolvesWhatIsInsideAllowedFolders) {
  const std::string data = fs::canonical(dir_.Join("data"));
  const std::pair<std::string, std::string> cases[] = {
      {Uri("data"), data},
      {Uri("data/"), data},
      {Uri("data/in.jsonl"), data + "/in.jsonl"},
      {Uri("data/sub%20folder/in.jsonl"), data + "/sub folder/in.jsonl"},
      {Uri("data/sub%20folder/../in.jsonl"), data + "/in.jsonl"},
      {Uri("database/../data/in.jsonl"), data + "/in.jsonl"},
      {Uri("data/new/deep/file"), data + "/new/deep/file"},
      {Uri("data/./new//deep/./"), data + "/new/deep"},
      {Uri("data/in.jsonl/below-a-file"), data + "/in.jsonl/below-a-file"},
  };
  for (const auto& [uri, path] : cases)
    EXPECT_THAT(list_.Resolve(uri, kFlag), IsOkAndHolds(PathToFileUri(path))) << uri;
}

TEST_F(AllowList, RefusesWhatIsOutside) {
  const std::string cases[] = {
      Uri("database"),
      Uri("database/secret"),
      Uri("database/new"),
      Uri("dat"),
      Uri("data2"),
      Uri(""),
      "file:/",
      "file:/etc/passwd",
      Uri("data/../database/secret"),
      Uri("data/.."),
      Uri("data/%2e%2e/database/secret"),
      Uri("data/sub%20folder/../../database/secret"),
      // ".." below what is yet to be made: what it means depends on how it is made.
      Uri("data/new/../../database/secret"),
      Uri("data/new/../file"),
  };
  for (const std::string& uri : cases) {
    EXPECT_THAT(list_.Resolve(uri, kFlag), Denied()) << uri;
    EXPECT_THAT(list_.Resolve(uri, kFlag).status(),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(uri)));
  }
}

TEST_F(AllowList, FollowsSymlinksBeforeItJudges) {
  fs::create_symlink(dir_.Join("database"), dir_.Join("data/folder"));
  fs::create_symlink(dir_.Join("database/secret"), dir_.Join("data/file"));
  fs::create_symlink(dir_.Join("database/new"), dir_.Join("data/dangling"));
  fs::create_symlink(dir_.Join("data/in.jsonl"), dir_.Join("data/inner"));
  fs::create_symlink("loop", dir_.Join("data/loop"));
  fs::create_symlink(dir_.Join("data"), dir_.Join("elsewhere"));
  for (const std::string name : {"folder", "folder/secret", "folder/new", "folder/new/deep", "file",
                                 "dangling", "dangling/x", "loop", "loop/x"}) {
    EXPECT_THAT(list_.Resolve(Uri("data/" + name), kFlag), Denied()) << name;
  }
  const std::string real = fs::canonical(dir_.Join("data/in.jsonl"));
  EXPECT_THAT(list_.Resolve(Uri("data/inner"), kFlag), IsOkAndHolds(PathToFileUri(real)));
  EXPECT_THAT(list_.Resolve(Uri("elsewhere/in.jsonl"), kFlag), IsOkAndHolds(PathToFileUri(real)));
}

TEST_F(AllowList, SaysTheSameOfFilesThatExistAndThatDoNot) {
  const auto message = [&](const std::string& name) {
    std::string text(list_.Resolve(Uri(name), kFlag).status().message());
    text.erase(text.find(name), name.size());
    return text;
  };
  EXPECT_EQ(message("database/secret"), message("database/absent"));
}

TEST_F(AllowList, RefusesMalformedUris) {
  EXPECT_THAT(list_.Resolve("/data", kFlag), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(list_.Resolve("http://host/x", kFlag), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_F(AllowList, AllowsNothingWhenItIsEmpty) {
  ASSERT_OK_AND_ASSIGN(const UriAllowList empty, UriAllowList::Create({}));
  EXPECT_THAT(empty.Resolve(Uri("data/in.jsonl"), "--allow-write"),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--allow-write")));
}

TEST_F(AllowList, AllowsEverythingBelowTheRoot) {
  ASSERT_OK_AND_ASSIGN(const UriAllowList all, UriAllowList::Create({"file:///"}));
  EXPECT_OK(all.Resolve(Uri("database/secret"), kFlag));
  EXPECT_THAT(all.Resolve("file:/", kFlag), IsOkAndHolds("file:/"));
  EXPECT_THAT(all.Resolve("file:/surely-not-there/x", kFlag),
              IsOkAndHolds("file:/surely-not-there/x"));
}

TEST_F(AllowList, TakesSeveralFoldersAndResolvesTheirSymlinks) {
  fs::create_symlink(dir_.Join("database"), dir_.Join("link"));
  ASSERT_OK_AND_ASSIGN(const UriAllowList list, UriAllowList::Create({Uri("data/"), Uri("link")}));
  EXPECT_OK(list.Resolve(Uri("data/in.jsonl"), kFlag));
  EXPECT_OK(list.Resolve(Uri("database/secret"), kFlag));
}

TEST_F(AllowList, TakesOnlyExistingFolders) {
  EXPECT_THAT(UriAllowList::Create({Uri("absent")}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(Uri("absent"))));
  EXPECT_THAT(UriAllowList::Create({Uri("data/in.jsonl")}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("in.jsonl")));
  EXPECT_THAT(UriAllowList::Create({"/data"}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AllowListOfBuckets, GivesTheOperatorsOptionsToWhatIsInside) {
  ASSERT_OK_AND_ASSIGN(
      const UriAllowList list,
      UriAllowList::Create({"s3://bucket/in/?region=r&scheme=http", "gs://whole"}));
  EXPECT_THAT(list.Resolve("s3://bucket/in/a/b.jsonl", kFlag),
              IsOkAndHolds("s3://bucket/in/a/b.jsonl?region=r&scheme=http"));
  EXPECT_THAT(list.Resolve("gs://whole/x", kFlag), IsOkAndHolds("gs://whole/x"));
  for (const std::string uri :
       {"s3://bucket/inner/a", "s3://bucket", "s3://bucket/", "s3://other/in/a", "gs://bucket/in/a",
        "gs://whole2/x", "file:/in/a"}) {
    EXPECT_FALSE(list.Resolve(uri, kFlag).ok()) << uri;
  }
  EXPECT_THAT(list.Resolve("s3://other/in/a", kFlag),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--allow-read")));
}

TEST(AllowListOfBuckets, RefusesOptionsAndPartsThatSomeWouldResolve) {
  ASSERT_OK_AND_ASSIGN(const UriAllowList list, UriAllowList::Create({"s3://bucket/in"}));
  for (const std::string uri :
       {"s3://bucket/in/a?endpoint_override=evil:80", "s3://bucket/in/../out", "s3://bucket/in/./a",
        "s3://bucket/in//a", "s3://bucket/in/%2e%2e/out", "s3://bucket/in/a#b", "s3:bucket/in/a",
        "s3://"}) {
    EXPECT_THAT(list.Resolve(uri, kFlag), StatusIs(absl::StatusCode::kInvalidArgument)) << uri;
  }
}

}  // namespace
}  // namespace secateur
