#include "server/storage/local_copy.h"

#include <unistd.h>

#include <sys/wait.h>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"
#include "tests/support/other_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

class LocalCopyTest : public testing::Test {
 protected:
  LocalCopyTest() { setenv("TMPDIR", temporary_.path().c_str(), 1); }
  ~LocalCopyTest() override { unsetenv("TMPDIR"); }
  // What stands in the folder for temporary files.
  int64_t Temporary() const {
    return std::distance(fs::directory_iterator(temporary_.path()), fs::directory_iterator());
  }

  const TempDir own_, temporary_;  // made before TMPDIR moves
  MemoryStore store_;
  const RunContext context_;
};

TEST_F(LocalCopyTest, IsTheStoresOwnFolderWhereThereIsOne) {
  ASSERT_OK_AND_ASSIGN(const auto store, LocalStore::Open(own_.path()));
  ASSERT_OK(store->Put("expert/config.json", "{}"));
  {
    ASSERT_OK_AND_ASSIGN(const LocalCopy copy, LocalCopy::Of(*store, "expert/", context_));
    EXPECT_EQ(copy.path(), own_.Join("expert"));
    EXPECT_EQ(Temporary(), 0);
  }
  EXPECT_OK(store->Head("expert/config.json"));
}

TEST_F(LocalCopyTest, IsACopyForAsLongAsItLivesElsewhere) {
  ASSERT_OK(store_.Put("expert/config.json", "{}"));
  {
    ASSERT_OK_AND_ASSIGN(LocalCopy first, LocalCopy::Of(store_, "expert/", context_));
    const LocalCopy copy = std::move(first);
    std::ifstream file(copy.path() + "/config.json");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "{}");
  }
  EXPECT_EQ(Temporary(), 0);
  EXPECT_THAT(LocalCopy::Of(store_, "other/", context_), StatusIs(absl::StatusCode::kNotFound));
}

// A store that is asked to stop while it is read.
class CancellingStore final : public OtherStore {
 public:
  CancellingStore(BlobStore& store, RunContext& context) : OtherStore(store), context_(context) {}
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    ++reads;
    context_.Cancel();
    return OtherStore::Read(key, offset, length);
  }
  int reads = 0;

 private:
  RunContext& context_;
};

TEST_F(LocalCopyTest, StopsWithinAPartOfACancelAndLeavesNothing) {
  ASSERT_OK(store_.Put("expert/model.safetensors", std::string(10 << 20, 'x')));
  RunContext context;
  CancellingStore store(store_, context);
  EXPECT_THAT(LocalCopy::Of(store, "expert/", context), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(store.reads, 1);
  EXPECT_EQ(Temporary(), 0);
}

TEST_F(LocalCopyTest, RemovesWhatAKilledProcessLeftAndNothingElse) {
  ASSERT_OK(store_.Put("expert/config.json", "{}"));
  temporary_.Write("secateur-copied/by-people", "");
  if (const pid_t child = fork(); child == 0) {
    const auto copy = LocalCopy::Of(store_, "expert/", context_);
    raise(SIGKILL);
  } else {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_EQ(Temporary(), 2);
  ASSERT_OK_AND_ASSIGN(const LocalCopy first, LocalCopy::Of(store_, "expert/", context_));
  EXPECT_EQ(Temporary(), 2);
  ASSERT_OK_AND_ASSIGN(const LocalCopy second, LocalCopy::Of(store_, "expert/", context_));
  EXPECT_EQ(Temporary(), 3);
  EXPECT_TRUE(fs::exists(first.path() + "/config.json"));
}

}  // namespace
}  // namespace secateur
