#include "server/object_storage/open_store.h"

#include <chrono>
#include <filesystem>
#include <string>

#include "server/base/utf8.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(OpenStore, OpensAFolderAndMemory) {
  const TempDir dir;
  for (const std::string& uri : {"file:" + dir.Join("one"), "file://" + dir.Join("two"),
                                 "FILE://localhost" + dir.Join("three/four")}) {
    ASSERT_OK_AND_ASSIGN(const auto store, OpenStore(uri));
    EXPECT_OK(store->Put("a", "1"));
  }
  EXPECT_TRUE(fs::exists(dir.Join("three/four/a")));
  ASSERT_OK_AND_ASSIGN(const auto memory, OpenStore("memory:"));
  EXPECT_OK(memory->Put("a", "1"));
  EXPECT_EQ(memory->uri(), "memory:");
}

TEST(OpenStore, RemovesLeftoversOnlyWhereAllThatWritesIsOurs) {
  const TempDir dir;
  dir.Write(".tmp/old", "x");
  const fs::path old = dir.Join(".tmp/old");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(25));
  ASSERT_OK(OpenStore("file:" + dir.path()));
  EXPECT_TRUE(fs::exists(old));
  ASSERT_OK(OpenStore("file:" + dir.path(), {.remove_leftovers = true}));
  EXPECT_FALSE(fs::exists(old));
}

TEST(OpenStore, NamesTheSchemesItServes) {
  for (const std::string uri : {"hdfs://host/path", "https://host/x"}) {
    EXPECT_THAT(OpenStore(uri),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr(uri), HasSubstr("file:"), HasSubstr("s3:"),
                               HasSubstr("gs:"), HasSubstr("abfs:"), HasSubstr("memory:"))));
  }
}

TEST(OpenStore, RefusesMalformedUris) {
  for (const std::string uri : {"", "/data/store", "store", ":x", "memory:x",
                                "file:", "file:relative", "file://host/x", "1:/x", "s3:bucket/x"}) {
    EXPECT_THAT(OpenStore(uri),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(Quoted(uri))))
        << uri;
  }
  for (const std::string uri : {"s3://", "gs:///folder", "s3://?region=x"}) {
    EXPECT_THAT(OpenStore(uri), StatusIs(absl::StatusCode::kInvalidArgument)) << uri;
  }
}

TEST(OpenStore, RefusesCredentialsInUrisAndDoesNotRepeatThem) {
  for (const std::string uri :
       {"s3://AKIAHUSH:hush@bucket/folder", "s3://hush@bucket/folder",
        "s3://bucket/x?secret_key=hush", "gs://user:hush@bucket/x",
        "abfs://container@account.dfs.core.windows.net/x?sv=1&sig=hush",
        "abfs://container@account.dfs.core.windows.net/x?client_secret=hush"}) {
    EXPECT_THAT(
        OpenStore(uri).status(),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("credentials"), Not(HasSubstr("hush")), Not(HasSubstr("HUSH")))))
        << uri;
  }
}

TEST(UriBelow, PutsTheFolderBeforeTheOptions) {
  EXPECT_EQ(UriBelow("file:/data", "tenants/t"), "file:/data/tenants/t");
  EXPECT_EQ(UriBelow("file:/data?x/", "t"), "file:/data?x/t");
  EXPECT_EQ(UriBelow("s3://bucket", "t"), "s3://bucket/t");
  EXPECT_EQ(UriBelow("s3://bucket/a/?region=r&scheme=http", "t/u"),
            "s3://bucket/a/t/u?region=r&scheme=http");
}

}  // namespace
}  // namespace secateur
