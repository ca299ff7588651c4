#include "server/pipeline/base_digest.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/storage/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using testing::IsEmpty;
using testing::SizeIs;

class BaseDigestTest : public testing::Test {
 protected:
  BaseDigestTest() {
    SetLogLevel(LogLevel::kError);
    fs::create_directory(folder_);
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder_));
    clock_.Advance(absl::Now() + absl::Hours(1) - clock_.Now());  // the files have settled
  }

  // The digest, as a server that has just started finds it.
  Digest Find(const std::string& folder) {
    const auto opened = ModelFolder::Open(folder);
    EXPECT_OK(opened);
    const BaseDigests digests(store_, clock_, [this](const std::string& path, RunContext& context) {
      ++hashed_;
      if (while_hashing_) while_hashing_();
      return Sha256OfFile(path, context);
    });
    RunContext context;
    const auto digest = digests.Of(**opened, context);
    EXPECT_OK(digest);
    return digest.value_or(Digest{});
  }
  Digest Find() { return Find(folder_); }
  // How many files are hashed for Find().
  int Hashed() {
    hashed_ = 0;
    Find();
    return hashed_;
  }
  Digest Computed() {
    RunContext context;
    return DigestOfFolder(*ModelFolder::Open(folder_).value(), context).value();
  }

  std::vector<std::string> Keys() {
    const auto listed = store_.List("", "", 100);
    EXPECT_OK(listed);
    std::vector<std::string> keys;
    for (const BlobInfo& blob : *listed) keys.push_back(blob.key);
    return keys;
  }
  // In place of what the store holds.
  void Store(const std::string& key, const std::string& bytes) {
    ASSERT_OK(store_.Delete(key));
    ASSERT_OK(store_.Put(key, bytes));
  }

  // Another last byte of the weights, in place: size and inode stay. Writes it until the file
  // system's clock has moved on.
  void ChangeWeights() const {
    const absl::Time before = Changed();
    std::fstream file(Weights(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const auto last = static_cast<char>(file.get());
    do {
      file.seekp(-1, std::ios::end);
      file.put(static_cast<char>(last ^ 1));
      file.flush();
    } while (Changed() == before);
  }
  std::string Weights() const { return folder_ + "/model.safetensors"; }
  absl::Time Changed() const {
    struct stat info;
    EXPECT_EQ(stat(Weights().c_str(), &info), 0);
    return absl::TimeFromTimespec(info.st_ctim);
  }

  TempDir dir_;
  const std::string folder_ = dir_.Join("model");
  FakeClock clock_;
  MemoryStore store_{clock_};
  std::function<void()> while_hashing_;
  int hashed_ = 0;
};

TEST_F(BaseDigestTest, IsThatOfTheFilesAndHashesThemOnce) {
  const Digest first = Find();
  EXPECT_EQ(first, Computed());
  EXPECT_GE(hashed_, 3);  // config, tokenizer, weights
  EXPECT_THAT(Keys(), SizeIs(1));
  EXPECT_EQ(Hashed(), 0);
  EXPECT_EQ(Find(), first);
}

TEST_F(BaseDigestTest, SeesAChangeThatKeepsTheSizeAndTheTime) {
  const Digest before = Find();
  const auto time = fs::last_write_time(Weights());
  ChangeWeights();
  EXPECT_NE(Find(), before);
  EXPECT_EQ(Find(), Computed());
  fs::last_write_time(Weights(), time);  // only the inode's own time tells that apart
  EXPECT_EQ(Find(), Computed());
  EXPECT_NE(Find(), before);
}

TEST_F(BaseDigestTest, SeesAnotherFileUnderTheSameName) {
  const Digest before = Find();
  const std::string other = dir_.Join("other");
  fs::copy_file(Weights(), other);
  fs::last_write_time(other, fs::last_write_time(Weights()));
  fs::rename(other, Weights());
  EXPECT_GT(Hashed(), 0);
  EXPECT_EQ(Find(), before);  // the same bytes
}

TEST_F(BaseDigestTest, SeesANanosecondOfDifference) {
  Find();
  struct stat info;
  ASSERT_EQ(stat(Weights().c_str(), &info), 0);
  timespec times[2] = {info.st_atim, info.st_mtim};
  times[1].tv_nsec = (times[1].tv_nsec + 1) % 1'000'000'000;
  ASSERT_EQ(utimensat(AT_FDCWD, Weights().c_str(), times, 0), 0);
  EXPECT_GT(Hashed(), 0);
  EXPECT_EQ(Hashed(), 0);
}

TEST_F(BaseDigestTest, SeesAnAddedFile) {
  const Digest before = Find();
  dir_.Write("model/LICENSE", "as you like");
  EXPECT_NE(Find(), before);
  EXPECT_EQ(Find(), Computed());
}

TEST_F(BaseDigestTest, SaysNothingAboutAnotherPath) {
  const Digest digest = Find();
  const std::string moved = dir_.Join("moved");
  fs::rename(folder_, moved);  // the same inodes, with the times they had
  hashed_ = 0;
  EXPECT_EQ(Find(moved), digest);
  EXPECT_GT(hashed_, 0);
  // A link is another name of the same path.
  fs::create_symlink(moved, dir_.Join("link"));
  hashed_ = 0;
  EXPECT_EQ(Find(dir_.Join("link")), digest);
  EXPECT_EQ(hashed_, 0);
}

TEST_F(BaseDigestTest, TakesNothingButWhatItWrote) {
  const Digest digest = Find();
  ASSERT_THAT(Keys(), SizeIs(1));
  const std::string key = Keys().front();
  const std::string good = store_.ReadAll(key, 4096).value();
  std::vector<std::string> damaged = {
      "", "{}", "[]", "null", good + " ", std::string(5000, ' '), good.substr(0, good.size() / 2)};
  for (size_t at = 0; at < good.size(); ++at) {
    damaged.push_back(good);
    damaged.back()[at] = static_cast<char>(damaged.back()[at] ^ 1);
  }
  // Another digest in the right form, but for the sum.
  damaged.push_back(good);
  damaged.back().replace(good.find(digest.Hex()), 64, Sha256Of("other").Hex());
  for (const std::string& bytes : damaged) {
    Store(key, bytes);
    hashed_ = 0;
    EXPECT_EQ(Find(), digest) << bytes;
    EXPECT_GT(hashed_, 0) << bytes;
    EXPECT_EQ(store_.ReadAll(key, 4096).value(), good);  // mended
  }
}

TEST_F(BaseDigestTest, DoesNotTakeTheObjectOfOtherFiles) {
  Find();
  const std::string before = store_.ReadAll(Keys().front(), 4096).value();
  ASSERT_OK(store_.Delete(Keys().front()));
  ChangeWeights();
  const Digest digest = Find();
  Store(Keys().front(), before);
  EXPECT_EQ(Find(), digest);
}

TEST_F(BaseDigestTest, DoesNotRememberWhatChangesMeanwhile) {
  while_hashing_ = [this] { ChangeWeights(); };
  Find();
  EXPECT_THAT(Keys(), IsEmpty());
}

TEST_F(BaseDigestTest, DoesNotRememberWhatHasJustChanged) {
  FakeClock now;
  now.Advance(Changed() + absl::Seconds(1) - now.Now());
  RunContext context;
  const auto folder = ModelFolder::Open(folder_).value();
  EXPECT_THAT(BaseDigests(store_, now).Of(*folder, context), IsOkAndHolds(Computed()));
  EXPECT_THAT(Keys(), IsEmpty());
}

TEST_F(BaseDigestTest, StopsWhenItIsCancelled) {
  RunContext context;
  context.Cancel();
  EXPECT_THAT(BaseDigests(store_, clock_).Of(*ModelFolder::Open(folder_).value(), context),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(Keys(), IsEmpty());
}

}  // namespace
}  // namespace secateur
