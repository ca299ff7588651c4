#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "server/corpus/corpus_store.h"
#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"
#include "tests/corpus/store_fixture.h"
#include "tests/support/meanwhile_store.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kTwo = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n";

TEST(CorpusStoreConcurrency, OfManyEqualUploadsOneWinsAndTheOthersFindIt) {
  const TempDir folder;
  const std::unique_ptr<BlobStore> stores[] = {std::make_unique<MemoryStore>(),
                                               LocalStore::Open(folder.path()).value()};
  for (const std::unique_ptr<BlobStore>& blobs : stores) {
    CorpusStore store(*blobs, Clock::System());
    std::atomic<int> made{0};
    std::atomic<int> existed{0};
    std::atomic<int> refused{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&, i] {
        const Labels labels = i % 4 == 3 ? Labels{} : Labels{{"language", "ko"}};
        const auto result = Upload(store, Labelled(labels), kTwo);
        if (absl::IsAlreadyExists(result.status())) {
          ++refused;
        } else if (result.ok()) {
          ++(result->existed ? existed : made);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(made, 1);
    EXPECT_EQ(made + existed + refused, 16);
    EXPECT_TRUE((existed == 11 && refused == 4) || (existed == 3 && refused == 12));
    EXPECT_THAT(Keys(*blobs, "uploads/"), SizeIs(1));
    EXPECT_THAT(Keys(*blobs, "corpora/"), SizeIs(1));
    CorpusStore restarted(*blobs, Clock::System());
    ASSERT_OK(restarted.Load());
    ASSERT_THAT(restarted.List({}), SizeIs(1));
    EXPECT_THAT(Documents(restarted, restarted.List({})[0].id()), IsOkAndHolds(SizeIs(2)));
  }
}

TEST(CorpusStoreConcurrency, OfManyLabelChangesAtOneGenerationOneWins) {
  MemoryStore blobs;
  CorpusStore store(blobs, Clock::System());
  const std::string id = Upload(store, Labelled({}), kTwo)->corpus.id();
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto result = store.UpdateLabels(id, {{"n", std::to_string(i)}}, 1);
      won += result.ok() ? 1 : 0;
      if (!result.ok()) {
        EXPECT_THAT(result, StatusIs(StatusCode::kAborted));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(store.Get(id)->generation, 2);
}

TEST(CorpusStoreConcurrency, OfChangesAndADeletionNothingIsLeft) {
  MemoryStore blobs;
  CorpusStore store(blobs, Clock::System());
  for (int round = 0; round < 20; ++round) {
    const std::string id = Upload(store, Labelled({}), kTwo)->corpus.id();
    std::atomic<bool> deleted{false};
    std::thread changes([&] {
      absl::Status changed;
      for (int n = 0; changed.ok() && !deleted; ++n) {
        changed = store.UpdateLabels(id, {{"n", std::to_string(n)}}, std::nullopt).status();
      }
      if (!changed.ok()) {
        EXPECT_THAT(changed, StatusIs(StatusCode::kNotFound));
      }
    });
    while (store.Get(id)->generation == 1) std::this_thread::yield();
    EXPECT_OK(store.Delete(id));
    deleted = true;
    changes.join();
    ASSERT_THAT(Keys(blobs), IsEmpty());
    ASSERT_THAT(store.List({}), IsEmpty());
  }
}

TEST(CorpusStoreConcurrency, OfARefreshAndAnUploadTheCorpusIsKnown) {
  MemoryStore memory;
  MeanwhileStore blobs(memory);
  CorpusStore store(blobs, Clock::System());
  blobs.Next([&store] { EXPECT_OK(Upload(store, Labelled({}), kTwo)); });
  EXPECT_OK(store.Refresh());
  blobs.Join();
  EXPECT_THAT(store.List({}), SizeIs(1));
}

}  // namespace
}  // namespace secateur
