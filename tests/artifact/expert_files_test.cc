// Files of experts that are read, and copied elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/base/strings.h"
#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"
#include "tests/artifact/some_expert.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

std::string ReadWhole(const ExpertStore& store, const StoredExpert& expert,
                      const std::string& name) {
  std::string whole;
  while (true) {
    const auto piece =
        store.ReadFile(expert, name, static_cast<int64_t>(whole.size()), int64_t{1} << 40);
    EXPECT_OK(piece);
    if (!piece.ok() || piece->empty()) return whole;
    EXPECT_LE(piece->size(), size_t{1} << 20);
    whole += *piece;
  }
}

TEST(ExpertStore, ReadsFilesInRangesOfAtMostOneMebibyte) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  const Files files = SomeFiles();
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'), files);
  for (const auto& [name, bytes] : files) EXPECT_EQ(ReadWhole(store, expert, name), bytes) << name;
  EXPECT_EQ(ReadWhole(store, expert, "secateur.json"), expert.manifest_json);

  const std::string& large = files.at("model.safetensors");
  const auto size = static_cast<int64_t>(large.size());
  EXPECT_THAT(store.ReadFile(expert, "model.safetensors", 7, 11),
              IsOkAndHolds(large.substr(7, 11)));
  EXPECT_THAT(store.ReadFile(expert, "model.safetensors", size - 3, 11),
              IsOkAndHolds(large.substr(large.size() - 3)));
  EXPECT_THAT(store.ReadFile(expert, "model.safetensors", size, 11), IsOkAndHolds(std::string()));
  for (const auto& [offset, length] :
       {std::pair{size + 1, int64_t{1}}, {int64_t{-1}, int64_t{1}}, {int64_t{0}, int64_t{-1}}}) {
    EXPECT_THAT(store.ReadFile(expert, "model.safetensors", offset, length),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("model.safetensors")));
  }
  EXPECT_THAT(store.ReadFile(expert, "../x", 0, 1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("../x")));
}

TEST(ExpertStore, ReadOfAFileThatBecameShorterIsDataLoss) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  ASSERT_OK(blobs.Delete(expert.prefix + "config.json"));
  ASSERT_OK(blobs.Put(expert.prefix + "config.json", "{"));
  EXPECT_THAT(store.ReadFile(expert, "config.json", 0, 3),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("config.json")));
}

TEST(ExpertStore, CopiesAllFilesWithTheManifest) {
  MemoryStore blobs;
  TempDir folder;
  ASSERT_OK_AND_ASSIGN(const auto target, LocalStore::Open(folder.path()));
  ExpertStore store(blobs);
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  int64_t reported = 0;
  RunContext context([&](const Progress& progress) {
    EXPECT_EQ(progress.phase, "copy");
    EXPECT_EQ(progress.total, expert.bytes());
    reported = progress.done;
  });
  ASSERT_OK(store.CopyTo(expert, *target, context));
  EXPECT_EQ(reported, expert.bytes() - expert.manifest.size);
  for (const auto& [name, bytes] : SomeFiles()) {
    EXPECT_THAT(target->ReadAll(name, 1 << 24), IsOkAndHolds(bytes));
  }
  EXPECT_THAT(target->ReadAll("secateur.json", 1 << 24), IsOkAndHolds(expert.manifest_json));
  EXPECT_OK(store.CopyTo(expert, *target, context));  // again
}

TEST(ExpertStore, ACopyContinuesOneThatDidNotEnd) {
  MemoryStore blobs;
  MemoryStore target;
  ExpertStore store(blobs);
  RunContext context;
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  ASSERT_OK(target.Put("model.safetensors", SomeFiles().at("model.safetensors")));
  ASSERT_OK(store.CopyTo(expert, target, context));
  EXPECT_THAT(Keys(target), SizeIs(SomeFiles().size() + 1));
}

TEST(ExpertStore, CopyRefusesAFolderThatHoldsSomethingElse) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  RunContext context;
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  const StoredExpert other = PublishSome(store, blobs, IdOf('2'), {{"a.txt", "a"}});
  MemoryStore occupied;
  ASSERT_OK(store.CopyTo(other, occupied, context));
  EXPECT_THAT(store.CopyTo(expert, occupied, context),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("another expert")));
  MemoryStore by_the_longer;
  ASSERT_OK(store.CopyTo(expert, by_the_longer, context));
  EXPECT_THAT(store.CopyTo(other, by_the_longer, context),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("another expert")));
  for (const std::string& bytes : {std::string("{ }"), std::string("{}\t")}) {  // other size; same
    MemoryStore half;
    ASSERT_OK(half.Put("config.json", bytes));
    EXPECT_THAT(store.CopyTo(expert, half, context),
                StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("config.json")));
    EXPECT_THAT(half.ReadAll("config.json", 100), IsOkAndHolds(bytes));
    EXPECT_THAT(half.Head("secateur.json"), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST(ExpertStore, CopyFindsAFlippedBitInTheSourceBeforeTheFileCanBeSeen) {
  MemoryStore blobs;
  MemoryStore target;
  ExpertStore store(blobs);
  RunContext context;
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  std::string bytes = SomeFiles().at("model.safetensors");
  bytes[bytes.size() - 1] ^= 1;
  ASSERT_OK(blobs.Delete(expert.prefix + "model.safetensors"));
  ASSERT_OK(blobs.Put(expert.prefix + "model.safetensors", bytes));
  EXPECT_THAT(store.CopyTo(expert, target, context),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("model.safetensors")));
  EXPECT_THAT(target.Head("model.safetensors"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(target.Head("secateur.json"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ExpertStore, ACancelledCopyHasNoManifest) {
  MemoryStore blobs;
  MemoryStore target;
  ExpertStore store(blobs);
  const StoredExpert expert = PublishSome(store, blobs, IdOf('1'));
  RunContext* running = nullptr;
  RunContext context([&](const Progress& progress) {
    if (progress.done > 1 << 20) running->Cancel();
  });
  running = &context;
  EXPECT_THAT(store.CopyTo(expert, target, context), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(target.Head("model.safetensors"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(target.Head("secateur.json"), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace secateur
