// What every BlobStore does (server/storage/blob_store.h). A test program includes this once and
// instantiates BlobStoreSuite with one BlobStoreCase for each kind of store.
#pragma once

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/strings.h"
#include "server/storage/blob_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {

struct BlobStoreCase {
  std::string name;
  // A new empty store; `folder` is empty and outlives it.
  std::function<std::unique_ptr<BlobStore>(const std::string& folder)> make;
  // Each call is a request: the suite makes fewer of them. And a key may lie below another.
  bool bucket = false;
};

inline void PrintTo(const BlobStoreCase& test_case, std::ostream* os) { *os << test_case.name; }

class BlobStoreSuite : public testing::TestWithParam<BlobStoreCase> {
 protected:
  static constexpr int64_t kNoLimit = 1000000;

  std::vector<std::string> Keys(const std::string& prefix = "", const std::string& start_after = "",
                                int64_t limit = kNoLimit) {
    const auto found = store_->List(prefix, start_after, limit);
    EXPECT_OK(found);
    std::vector<std::string> keys;
    if (found.ok()) {
      for (const BlobInfo& info : *found) keys.push_back(info.key);
    }
    return keys;
  }

  // Bytes that differ at every place and from seed to seed.
  static std::string Bytes(size_t size, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    return bytes;
  }

  // The error names the store and the key.
  auto Fails(absl::StatusCode code, const std::string& key) {
    return StatusIs(code,
                    testing::AllOf(testing::HasSubstr(store_->uri()), testing::HasSubstr(key)));
  }

  const TempDir folder_;
  const std::unique_ptr<BlobStore> store_ = GetParam().make(folder_.path());
};

inline std::vector<std::string> BadBlobKeys() {
  const std::string long_part(256, 'x');
  const std::string long_key = std::string(255, 'x') + "/" + std::string(255, 'x') + "/xx";
  return {"",        "/",
          "/a",      "a/",
          "a//b",    ".",
          "..",      "a/.",
          "a/..",    "../a",
          "a/../b",  "./a",
          "a b",     "a\\b",
          "a:b",     "a%2Fb",
          "a~",      "a*",
          "a\n",     "\xC3\xA9",
          "\xFF",    std::string("a\0b", 3),
          ".tmp",    ".tmp/a",
          long_part, "a/" + long_part,
          long_key};
}

TEST_P(BlobStoreSuite, GivesBackWhatWasPut) {
  const std::string bytes = Bytes(1000, 1);
  ASSERT_OK_AND_ASSIGN(const BlobReceipt receipt, store_->Put("a/b/c.bin", bytes));
  EXPECT_EQ(receipt.size, 1000);
  EXPECT_EQ(receipt.digest, Sha256Of(bytes));
  EXPECT_THAT(store_->ReadAll("a/b/c.bin", 1000), IsOkAndHolds(bytes));
  ASSERT_OK_AND_ASSIGN(const BlobInfo info, store_->Head("a/b/c.bin"));
  EXPECT_EQ(info.key, "a/b/c.bin");
  EXPECT_EQ(info.size, 1000);
  EXPECT_GT(info.modified, absl::UnixEpoch());
}

TEST_P(BlobStoreSuite, HoldsObjectsOfEverySizeAroundItsBuffers) {
  constexpr size_t kMiB = size_t{1} << 20;
  for (const size_t size : {size_t{0}, size_t{1}, kMiB - 1, kMiB, kMiB + 1, 9 * kMiB, 9 * kMiB + 1,
                            10 * kMiB, 12 * kMiB, 20 * kMiB, 21 * kMiB}) {
    const std::string bytes = Bytes(size, size);
    const std::string key = StrCat("size/", size);
    ASSERT_OK_AND_ASSIGN(const BlobReceipt receipt, store_->Put(key, bytes));
    EXPECT_EQ(receipt.size, static_cast<int64_t>(size));
    EXPECT_EQ(receipt.digest, Sha256Of(bytes));
    ASSERT_OK_AND_ASSIGN(const std::string read, store_->ReadAll(key, 30 * kMiB));
    EXPECT_TRUE(read == bytes) << size;  // not EXPECT_EQ, which would print them
  }
}

TEST_P(BlobStoreSuite, WritesTheSameBytesHoweverTheyAreCut) {
  const std::string bytes = Bytes(5000000, 2);
  std::mt19937_64 random(3);
  for (int round = 0; round < 8; ++round) {
    const std::string key = StrCat("cut/", round);
    ASSERT_OK_AND_ASSIGN(const auto writer, store_->Create(key));
    for (size_t at = 0; at < bytes.size();) {
      // Pieces of all magnitudes, empty ones too; gone as soon as Append returns.
      const size_t size = random() % (size_t{1} << (random() % 22 + 1));
      const std::string piece = bytes.substr(at, size);
      ASSERT_OK(writer->Append(piece));
      at += piece.size();
    }
    ASSERT_OK_AND_ASSIGN(const BlobReceipt receipt, writer->Commit());
    EXPECT_EQ(receipt.digest, Sha256Of(bytes));
    ASSERT_OK_AND_ASSIGN(const std::string read, store_->ReadAll(key, 5000000));
    EXPECT_TRUE(read == bytes) << round;
  }
}

TEST_P(BlobStoreSuite, ShowsNothingBeforeCommit) {
  ASSERT_OK_AND_ASSIGN(const auto writer, store_->Create("a/b"));
  const auto expect_nothing = [&] {
    EXPECT_THAT(store_->Head("a/b"), Fails(absl::StatusCode::kNotFound, "a/b"));
    EXPECT_THAT(store_->Read("a/b", 0, 1), Fails(absl::StatusCode::kNotFound, "a/b"));
    EXPECT_EQ(store_->LocalPath("a/b"), std::nullopt);
    EXPECT_THAT(Keys(), testing::IsEmpty());
  };
  expect_nothing();
  ASSERT_OK(writer->Append(Bytes(3 << 20, 4)));
  expect_nothing();
  ASSERT_OK(writer->Commit());
  EXPECT_THAT(Keys(), testing::ElementsAre("a/b"));
}

TEST_P(BlobStoreSuite, DiscardsWhatWasNotCommitted) {
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, store_->Create("a/b"));
    ASSERT_OK(writer->Append(Bytes(3 << 20, 5)));
  }
  EXPECT_THAT(Keys(), testing::IsEmpty());
  EXPECT_OK(store_->Put("a/b", "second attempt"));
  EXPECT_OK(store_->Put("a/c", "beside it"));
}

TEST_P(BlobStoreSuite, RefusesToUseAWriterAfterItsCommit) {
  ASSERT_OK_AND_ASSIGN(const auto writer, store_->Create("a"));
  ASSERT_OK(writer->Append("bytes"));
  ASSERT_OK(writer->Commit());
  EXPECT_THAT(writer->Append("more"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Commit(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(store_->ReadAll("a", 100), IsOkAndHolds("bytes"));
}

TEST_P(BlobStoreSuite, NeverOverwritesAnObject) {
  ASSERT_OK_AND_ASSIGN(const auto late, store_->Create("a/b"));
  ASSERT_OK(late->Append("late"));
  ASSERT_OK(store_->Put("a/b", "first"));
  EXPECT_THAT(store_->Create("a/b"), Fails(absl::StatusCode::kAlreadyExists, "a/b"));
  EXPECT_THAT(store_->Put("a/b", "again"), Fails(absl::StatusCode::kAlreadyExists, "a/b"));
  EXPECT_THAT(late->Commit(), Fails(absl::StatusCode::kAlreadyExists, "a/b"));
  EXPECT_THAT(store_->ReadAll("a/b", 100), IsOkAndHolds("first"));
}

TEST_P(BlobStoreSuite, NeverHoldsAKeyAndAKeyBelowIt) {
  if (GetParam().bucket) return;  // buckets are flat
  ASSERT_OK_AND_ASSIGN(const auto above, store_->Create("a"));
  ASSERT_OK(store_->Put("a/b/c", "below"));
  for (const std::string key : {"a", "a/b", "a/b/c/d", "a/b/c/d/e"}) {
    EXPECT_THAT(store_->Create(key), Fails(absl::StatusCode::kFailedPrecondition, key)) << key;
    EXPECT_THAT(store_->Head(key), Fails(absl::StatusCode::kNotFound, key)) << key;
    EXPECT_THAT(store_->Read(key, 0, 1), Fails(absl::StatusCode::kNotFound, key)) << key;
    EXPECT_OK(store_->Delete(key)) << key;
  }
  EXPECT_THAT(above->Commit(), Fails(absl::StatusCode::kFailedPrecondition, "a"));
  EXPECT_THAT(Keys(), testing::ElementsAre("a/b/c"));

  ASSERT_OK_AND_ASSIGN(const auto below, store_->Create("a/b/d"));
  ASSERT_OK(store_->Delete("a/b/c"));
  EXPECT_OK(store_->Put("a", "now it is free"));
  EXPECT_THAT(below->Commit(), Fails(absl::StatusCode::kFailedPrecondition, "a/b/d"));
  EXPECT_THAT(Keys(), testing::ElementsAre("a"));
}

TEST_P(BlobStoreSuite, ReadsRanges) {
  const std::string bytes = Bytes(10000, 6);
  ASSERT_OK(store_->Put("a", bytes));
  const int64_t offsets[] = {0, 1, 4095, 9999, 10000};
  const int64_t lengths[] = {0, 1, 4096, 10000, 10001, std::numeric_limits<int64_t>::max()};
  for (const int64_t offset : offsets) {
    for (const int64_t length : lengths) {
      ASSERT_OK_AND_ASSIGN(const std::string read, store_->Read("a", offset, length));
      EXPECT_TRUE(read == bytes.substr(offset, length)) << offset << " " << length;
    }
  }
}

TEST_P(BlobStoreSuite, RefusesRangesPastTheEndAndNegativeOnes) {
  ASSERT_OK(store_->Put("some/key", "12345"));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::pair<int64_t, int64_t> ranges[] = {{6, 0},  {6, 1},         {kMax, kMax}, {-1, 1},
                                                {0, -1}, {-kMax, -kMax}, {5, -1}};
  for (const auto& [offset, length] : ranges) {
    EXPECT_THAT(store_->Read("some/key", offset, length),
                Fails(absl::StatusCode::kOutOfRange, "some/key"))
        << offset << " " << length;
  }
}

TEST_P(BlobStoreSuite, ReadsAllOnlyUpToTheGivenSize) {
  ASSERT_OK(store_->Put("some/key", "12345"));
  EXPECT_THAT(store_->ReadAll("some/key", 5), IsOkAndHolds("12345"));
  EXPECT_THAT(store_->ReadAll("some/key", 4),
              Fails(absl::StatusCode::kResourceExhausted, "some/key"));
  EXPECT_THAT(store_->ReadAll("no/key", 4), Fails(absl::StatusCode::kNotFound, "no/key"));
}

TEST_P(BlobStoreSuite, ListsAsASortedSetOfStringsWould) {
  // Keys around '/', which sorts after '-' and '.' and before the digits.
  std::set<std::string> keys = {"a-b",   "a.b",     "a/b",      "a0",       "aa/b/c", "aa/b-",
                                "aa/b0", "aa/ba/x", "B",        "_",        "-",      "a/-",
                                "a/a",   ".hidden", "a/.tmp/x", "z/z/z/z/z"};
  std::mt19937_64 random(7);
  const std::string parts[] = {"a", "b", "ab", "a-", "a.", "0", "A", "_"};
  for (int i = 0; i < 100; ++i) {
    std::string key = StrCat("r", random() % 3);
    for (uint64_t depth = random() % 3; depth > 0; --depth) {
      key += StrCat("/", parts[random() % std::size(parts)]);
    }
    key += StrCat("/f", random() % 5);
    keys.insert(key);
  }
  for (const std::string& key : keys) ASSERT_OK(store_->Put(key, key));

  std::vector<std::string> places = {"",     "a",  "a/",   "a/b", "aa", "aa/b", "aa/b/", "r",
                                     "r1/a", "zz", "\xFF", "/",   "..", "../",  "a//",   "a/b/c/d"};
  if (GetParam().bucket) {
    places = {"", "a", "a/", "aa/b", "aa/b/", "r", "r1/a", "\xFF", "/", "..", "a//"};
  } else {
    places.insert(places.end(), keys.begin(), keys.end());
  }
  for (const std::string& prefix : places) {
    for (const std::string& start_after : places) {
      std::vector<std::string> expected;
      for (const std::string& key : keys) {
        if (key.starts_with(prefix) && key > start_after) expected.push_back(key);
      }
      ASSERT_EQ(Keys(prefix, start_after), expected) << prefix << " after " << start_after;
    }
  }
}

TEST_P(BlobStoreSuite, ListsPageByPage) {
  std::vector<std::string> keys;
  for (int i = 0; i < 25; ++i) keys.push_back(StrCat("k/", 10 + i / 5, "/", 10 + i));
  for (const std::string& key : keys) ASSERT_OK(store_->Put(key, "12345"));
  for (const int64_t page_size : {1, 2, 7, 25, 26}) {
    std::vector<std::string> seen;
    while (true) {
      const auto page = Keys("k/", seen.empty() ? "" : seen.back(), page_size);
      ASSERT_LE(static_cast<int64_t>(page.size()), page_size);
      if (page.empty()) break;
      seen.insert(seen.end(), page.begin(), page.end());
    }
    EXPECT_EQ(seen, keys) << page_size;
  }
  EXPECT_THAT(Keys("", "", 0), testing::IsEmpty());
  EXPECT_THAT(store_->List("", "", -1), Fails(absl::StatusCode::kInvalidArgument, "-1"));
}

TEST_P(BlobStoreSuite, ListsTheSameFactsAsHead) {
  ASSERT_OK(store_->Put("a/b", "12345"));
  ASSERT_OK_AND_ASSIGN(const BlobInfo head, store_->Head("a/b"));
  ASSERT_OK_AND_ASSIGN(const auto listed, store_->List("", "", 10));
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].key, head.key);
  EXPECT_EQ(listed[0].size, head.size);
  EXPECT_EQ(listed[0].modified, head.modified);
}

TEST_P(BlobStoreSuite, RefusesBadKeys) {
  for (const std::string& key : BadBlobKeys()) {
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("key"));
    EXPECT_THAT(CheckBlobKey(key), refused) << key;
    EXPECT_THAT(store_->Create(key), refused) << key;
    EXPECT_THAT(store_->Put(key, "x"), refused) << key;
    EXPECT_THAT(store_->Read(key, 0, 1), refused) << key;
    EXPECT_THAT(store_->ReadAll(key, 1), refused) << key;
    EXPECT_THAT(store_->Head(key), refused) << key;
    EXPECT_THAT(store_->Delete(key), refused) << key;
    EXPECT_EQ(store_->LocalPath(key), std::nullopt) << key;
  }
  EXPECT_THAT(Keys(), testing::IsEmpty());
}

TEST_P(BlobStoreSuite, TakesEveryGoodKey) {
  const std::string part(255, 'x');
  const std::string longest = part + "/" + std::string(254, 'y') + "/z";
  ASSERT_EQ(longest.size(), 512u);
  const std::vector<std::string> keys = {
      "-",      ".a",         "...",   ".tmp2",
      "a/.tmp", "A-Z_a.z0-9", longest, "experts/e0123456789/model-00001-of-00002.safetensors"};
  for (const std::string& key : keys) {
    EXPECT_OK(CheckBlobKey(key));
    EXPECT_OK(store_->Put(key, key));
    EXPECT_THAT(store_->ReadAll(key, 512), IsOkAndHolds(key));
  }
  EXPECT_EQ(Keys().size(), keys.size());
}

TEST_P(BlobStoreSuite, DeletesOnceAndAgain) {
  ASSERT_OK(store_->Put("a/b", "1"));
  ASSERT_OK(store_->Put("a/c", "2"));
  EXPECT_OK(store_->Delete("a/b"));
  EXPECT_OK(store_->Delete("a/b"));
  EXPECT_OK(store_->Delete("never/was"));
  EXPECT_THAT(store_->Head("a/b"), Fails(absl::StatusCode::kNotFound, "a/b"));
  EXPECT_THAT(Keys(), testing::ElementsAre("a/c"));
  EXPECT_OK(store_->Put("a/b", "3"));
  EXPECT_THAT(store_->ReadAll("a/b", 10), IsOkAndHolds("3"));
}

TEST_P(BlobStoreSuite, GivesALocalPathThatHoldsTheBytesOrNone) {
  ASSERT_OK(store_->Put("a/b", "12345"));
  const auto path = store_->LocalPath("a/b");
  if (path) {
    std::ifstream file(*path, std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "12345");
  }
  EXPECT_EQ(store_->LocalPath("absent"), std::nullopt);
}

TEST_P(BlobStoreSuite, IsWritable) {
  EXPECT_OK(store_->Check());
  EXPECT_THAT(Keys(), testing::IsEmpty());
}

TEST_P(BlobStoreSuite, LetsManyWritersWriteDifferentKeys) {
  constexpr int kThreads = 8;
  constexpr int kObjects = 20;
  const auto key = [](int t, int i) { return StrCat("k/", i % 5, "/", t, "/", i); };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kObjects; ++i) {
        const std::string bytes = Bytes(1000 * i + (i == 7 ? 2000000 : 0), t * 1000 + i);
        const auto receipt = store_->Put(key(t, i), bytes);
        EXPECT_OK(receipt);
        EXPECT_EQ(receipt.value_or(BlobReceipt()).digest, Sha256Of(bytes));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Keys().size(), size_t{kThreads} * kObjects);
  for (int t = 0; t < kThreads; ++t) {
    ASSERT_OK_AND_ASSIGN(const std::string read, store_->ReadAll(key(t, 3), 5000));
    EXPECT_TRUE(read == Bytes(3000, t * 1000 + 3));
  }
}

TEST_P(BlobStoreSuite, LetsExactlyOneOfManyWritersOfAKeyWin) {
  constexpr int kThreads = 8;
  for (int round = 0; round < 20; ++round) {
    const std::string key = StrCat("round/", round, "/key");
    std::vector<absl::Status> results(kThreads);
    std::vector<std::unique_ptr<BlobWriter>> writers(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      ASSERT_OK_AND_ASSIGN(writers[t], store_->Create(key));
      ASSERT_OK(writers[t]->Append(StrCat("writer ", t)));
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { results[t] = writers[t]->Commit().status(); });
    }
    for (std::thread& thread : threads) thread.join();
    int winner = -1;
    for (int t = 0; t < kThreads; ++t) {
      if (results[t].ok()) {
        EXPECT_EQ(winner, -1) << "two writers won";
        winner = t;
      } else {
        EXPECT_THAT(results[t], Fails(absl::StatusCode::kAlreadyExists, key));
      }
    }
    EXPECT_THAT(store_->ReadAll(key, 100), IsOkAndHolds(StrCat("writer ", winner)));
  }
}

TEST_P(BlobStoreSuite, SurvivesDeletesBesideWrites) {
  // Deletes empty the folders into which others write.
  constexpr int kThreads = 4;
  const int rounds = GetParam().bucket ? 2 : 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        const std::string key = StrCat("a/b/c/", t);
        EXPECT_OK(store_->Put(key, key));
        EXPECT_THAT(store_->ReadAll(key, 100), IsOkAndHolds(key));
        EXPECT_OK(store_->Delete(key));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Keys(), testing::IsEmpty());
}

TEST_P(BlobStoreSuite, NamesItselfWithAUri) { EXPECT_THAT(store_->uri(), testing::HasSubstr(":")); }

}  // namespace secateur
