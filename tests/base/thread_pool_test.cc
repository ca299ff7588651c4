#include "server/base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/mutex.h"

namespace secateur {
namespace {

using ::testing::ElementsAre;

TEST(ThreadPool, RunsInlineWithoutWorkers) {
  ThreadPool pool(0);
  std::thread::id ran_on;
  pool.Add([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(ThreadPool, RunsInlineWorkThatAddsWork) {
  ThreadPool pool(0);
  std::vector<int> order;
  pool.Add([&] {
    order.push_back(1);
    pool.Add([&] { order.push_back(2); });
    order.push_back(3);
  });
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(ThreadPool, KeepsTheOrderWithOneWorker) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 1000; ++i) pool.Add([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
}

TEST(ThreadPool, FinishesAllWorkBeforeItIsDestroyed) {
  std::atomic<int> done = 0;
  {
    ThreadPool pool(4);
    for (int i = 0; i < 1000; ++i) {
      pool.Add([&] {
        pool.Add([&] { ++done; });
        ++done;
      });
    }
  }
  EXPECT_EQ(done, 2000);
}

TEST(ThreadPool, RunsAsManyFunctionsAtOnceAsItHasWorkers) {
  constexpr int kWorkers = 3;
  Mutex mutex;
  CondVar all_here;
  int here = 0;
  {
    ThreadPool pool(kWorkers);
    for (int i = 0; i < kWorkers; ++i) {
      pool.Add([&] {  // returns only when all three run at the same time
        MutexLock lock(mutex);
        ++here;
        all_here.NotifyAll();
        while (here < kWorkers) all_here.Wait(mutex);
      });
    }
  }
  EXPECT_EQ(here, kWorkers);
}

TEST(ThreadPool, TakesFunctionsThatCannotBeCopied) {
  int seen = 0;
  {
    ThreadPool pool(1);
    pool.Add([value = std::make_unique<int>(7), &seen] { seen = *value; });
  }
  EXPECT_EQ(seen, 7);
}

TEST(Mutex, LetsOneThreadInAtATime) {
  Mutex mutex;
  int64_t count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        MutexLock lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 80000);
}

TEST(CondVar, PassesATokenBackAndForth) {
  Mutex mutex;
  CondVar changed;
  int turns = 0;  // even: this thread's turn
  std::thread other([&] {
    for (int i = 0; i < 500; ++i) {
      MutexLock lock(mutex);
      while (turns % 2 == 0) changed.Wait(mutex);
      ++turns;
      changed.NotifyOne();
    }
  });
  for (int i = 0; i < 500; ++i) {
    MutexLock lock(mutex);
    while (turns % 2 == 1) changed.Wait(mutex);
    ++turns;
    changed.NotifyOne();
  }
  other.join();
  EXPECT_EQ(turns, 1000);
}

TEST(CondVar, SaysWhenTheTimeRanOut) {
  Mutex mutex;
  CondVar never;
  {
    MutexLock lock(mutex);
    while (never.WaitFor(mutex, std::chrono::milliseconds(1))) {
    }  // ends: only spurious wake-ups return true
  }
  MutexLock again(mutex);  // hangs if the wait did not hand the mutex back to its lock
}

TEST(CondVar, SaysWhenItWasNotified) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  MutexLock lock(mutex);
  std::thread other([&] {
    MutexLock inner(mutex);  // gets it once the wait below has begun
    done = true;
    changed.NotifyAll();
  });
  while (!done) EXPECT_TRUE(changed.WaitFor(mutex, std::chrono::hours(1)));
  other.join();
}

}  // namespace
}  // namespace secateur
