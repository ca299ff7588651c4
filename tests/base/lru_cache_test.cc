#include "server/base/lru_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

namespace secateur {
namespace {

std::shared_ptr<const int64_t> Number(int64_t value) {
  return std::make_shared<const int64_t>(value);
}

TEST(LruCache, DropsWhatWasUsedLeastRecently) {
  LruCache<int64_t> cache(30);
  for (const char* key : {"a", "b", "c"}) cache.Insert(key, Number(7), 10);
  const auto held = cache.Find("b");
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_NE(cache.Find("c"), nullptr);
  cache.Insert("d", Number(8), 10);
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ(*held, 7);  // lives as long as somebody holds it
  for (const char* key : {"a", "c", "d"}) EXPECT_NE(cache.Find(key), nullptr) << key;
  EXPECT_EQ(cache.cost(), 30);
}

TEST(LruCache, KeepsTheFirstOfTwoValuesAndCountsItAsUsed) {
  LruCache<int64_t> cache(2);
  const auto first = cache.Insert("a", Number(1), 1);
  cache.Insert("b", Number(2), 1);
  EXPECT_EQ(cache.Insert("a", Number(3), 1), first);
  EXPECT_EQ(cache.Find("a"), first);
  EXPECT_EQ(cache.cost(), 2);
  cache.Insert("c", Number(4), 1);
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ(cache.Find("a"), first);
}

TEST(LruCache, NeverHoldsMoreThanItMay) {
  std::mt19937 random(1);
  LruCache<int64_t> cache(10'000);
  for (int i = 0; i < 2000; ++i) {
    const auto cost = static_cast<int64_t>(random() % 25'000);  // some do not fit at all
    ASSERT_NE(cache.Insert(std::to_string(random() % 50), Number(cost), cost), nullptr);
    ASSERT_LE(cache.cost(), 10'000);
  }
  LruCache<int64_t> none(0);
  EXPECT_EQ(*none.Insert("a", Number(5), 1), 5);
  EXPECT_EQ(none.Find("a"), nullptr);
  EXPECT_EQ(none.cost(), 0);
}

TEST(LruCache, MayBeUsedFromSeveralThreads) {
  LruCache<int64_t> cache(500);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&cache, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 2000; ++i) {
        const auto cost = static_cast<int64_t>(random() % 40 + 1);
        const std::string key = std::to_string(cost);
        const auto found = cache.Find(key);
        EXPECT_EQ(*(found ? found : cache.Insert(key, Number(cost), cost)), cost);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(cache.cost(), 500);
}

}  // namespace
}  // namespace secateur
