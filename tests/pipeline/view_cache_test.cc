#include "server/pipeline/view_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace secateur {
namespace {

RelevanceView ViewOfNeurons(size_t count) {
  RelevanceView view;
  view.layers.resize(1);
  view.layers[0].relevance.resize(count);
  view.layers[0].max_rank.resize(count);
  return view;
}

TEST(ViewCache, DropsWhatWasUsedLeastRecently) {
  const int64_t size = ViewOfNeurons(100).bytes();
  ViewCache cache(3 * size);
  for (const char* key : {"a", "b", "c"}) cache.Insert(key, ViewOfNeurons(100));
  const auto held = cache.Find("b");
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_NE(cache.Find("c"), nullptr);
  cache.Insert("d", ViewOfNeurons(100));
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ(held->layers[0].relevance.size(), 100U);  // lives as long as somebody holds it
  for (const char* key : {"a", "c", "d"}) EXPECT_NE(cache.Find(key), nullptr) << key;
  EXPECT_EQ(cache.bytes(), 3 * size);
}

TEST(ViewCache, NeverHoldsMoreThanItMay) {
  std::mt19937 random(1);
  ViewCache cache(10'000);
  for (int i = 0; i < 2000; ++i) {
    const size_t count = random() % 2500;  // some do not fit at all
    const auto view = cache.Insert(std::to_string(random() % 50), ViewOfNeurons(count));
    ASSERT_EQ(view->layers[0].relevance.size(), count);
    ASSERT_LE(cache.bytes(), 10'000);
  }
  ViewCache none(0);
  none.Insert("a", ViewOfNeurons(1));
  EXPECT_EQ(none.Find("a"), nullptr);
  EXPECT_EQ(none.bytes(), 0);
}

TEST(ViewCache, MayBeUsedFromSeveralThreads) {
  ViewCache cache(5'000);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&cache, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 2000; ++i) {
        const size_t count = random() % 40 + 1;
        const std::string key = std::to_string(count);
        const auto found = cache.Find(key);
        const auto view = found ? found : cache.Insert(key, ViewOfNeurons(count));
        EXPECT_EQ(view->layers[0].relevance.size(), count);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(cache.bytes(), 5'000);
}

}  // namespace
}  // namespace secateur
