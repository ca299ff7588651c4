#include "server/jobs/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// The refusal, which must say what it is about.
ErrorNotes Refused(Admission& admission, const std::string& tenant, const JobNeeds& needs) {
  const absl::Status status = admission.Reserve(tenant, needs).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const ErrorNotes notes = NotesOf(status);
  EXPECT_EQ(notes.violations.size(), 1U);
  if (notes.violations.size() == 1) {
    EXPECT_EQ(notes.violations[0].description, status.message());
  }
  return notes;
}

TEST(Admission, GivesPlacesBackWhenTheyAreLeft) {
  Admission admission({.operations = 2, .retry_after = absl::Seconds(7)});
  ASSERT_OK_AND_ASSIGN(Admission::Reservation first, admission.Reserve("a", {}));
  {
    ASSERT_OK_AND_ASSIGN(const Admission::Reservation second, admission.Reserve("b", {}));
    const ErrorNotes notes = Refused(admission, "c", {});
    EXPECT_EQ(notes.reason, "QUEUE_FULL");
    EXPECT_EQ(notes.violations[0].subject, "server");
    EXPECT_THAT(notes.violations[0].description, AllOf(HasSubstr("2 operations wait or run, of 2"),
                                                       HasSubstr("--max-queued-operations")));
    EXPECT_EQ(notes.retry_after, absl::Seconds(7));
  }
  ASSERT_OK_AND_ASSIGN(Admission::Reservation third, admission.Reserve("c", {}));
  third = std::move(first);  // the third's own place is free
  EXPECT_EQ(admission.InAll().operations, 1);
  EXPECT_EQ(admission.OperationsOf("a"), 1);
  third.Release();
  third.Release();
  EXPECT_EQ(admission.InAll().operations, 0);
  EXPECT_EQ(admission.OperationsOf("a"), 0);
}

TEST(Admission, OneTenantDoesNotTakeThePlacesOfAnother) {
  Admission admission({.operations = 10, .operations_per_tenant = 2});
  ASSERT_OK_AND_ASSIGN(const auto a1, admission.Reserve("tenants/a", {}));
  ASSERT_OK_AND_ASSIGN(const auto a2, admission.Reserve("tenants/a", {}));
  const ErrorNotes notes = Refused(admission, "tenants/a", {});
  EXPECT_EQ(notes.reason, "TENANT_QUOTA");
  EXPECT_EQ(notes.violations[0].subject, "tenants/a");
  EXPECT_THAT(notes.violations[0].description, HasSubstr("--max-operations-per-tenant"));
  EXPECT_TRUE(notes.retry_after.has_value());
  EXPECT_OK(admission.Reserve("tenants/b", {}));
}

TEST(Admission, CountsMemoryOfAsManyAsMayRunAtOnce) {
  Admission admission({.running = 2, .memory_bytes = 100 * kMiB});
  std::vector<Admission::Reservation> held;
  for (int i = 0; i < 10; ++i) {  // of which two run at a time
    ASSERT_OK_AND_ASSIGN(held.emplace_back(), admission.Reserve("a", {.memory_bytes = 40 * kMiB}));
  }
  EXPECT_EQ(admission.InAll().memory_bytes, 80 * kMiB);
  EXPECT_OK(admission.Reserve("a", {.memory_bytes = 60 * kMiB}));
  const ErrorNotes notes = Refused(admission, "a", {.memory_bytes = 61 * kMiB});
  EXPECT_EQ(notes.reason, "MEMORY_RESERVED");
  EXPECT_THAT(notes.violations[0].description,
              AllOf(HasSubstr("61.0 MiB of memory"), HasSubstr("101.0 MiB of 100.0 MiB"),
                    HasSubstr("--max-reserved-memory-bytes")));
  EXPECT_TRUE(notes.retry_after.has_value());
  held.clear();
  EXPECT_OK(admission.Reserve("a", {.memory_bytes = 100 * kMiB}));
  EXPECT_EQ(admission.InAll().memory_bytes, 0);
}

TEST(Admission, CountsAllThatIsToBeStoredAndTheTemporaryFilesOfWhatRuns) {
  int64_t free = 100 * kMiB;
  Admission admission({.running = 1, .disk = [&free] { return DiskRoom{free, 200 * kMiB}; }});
  const JobNeeds needs{.temporary_bytes = 20 * kMiB, .stored_bytes = 40 * kMiB};
  ASSERT_OK_AND_ASSIGN(const auto first, admission.Reserve("a", needs));
  ASSERT_OK_AND_ASSIGN(const auto second, admission.Reserve("a", needs));
  EXPECT_EQ(admission.InAll().disk_bytes, 100 * kMiB);
  const ErrorNotes notes = Refused(admission, "a", {.stored_bytes = kMiB});
  EXPECT_EQ(notes.reason, "DISK_RESERVED");
  EXPECT_TRUE(notes.retry_after.has_value());
  free += kMiB;  // it is asked for each time
  EXPECT_OK(admission.Reserve("a", {.stored_bytes = kMiB}));
}

// A disk that is full now may have room later.
TEST(Admission, RefusesForEverOnlyWhatTheWholeDiskCouldNotTake) {
  Admission admission({.disk = [] { return DiskRoom{10 * kMiB, 20 * kMiB}; }});
  const ErrorNotes now = Refused(admission, "a", {.stored_bytes = 20 * kMiB});
  EXPECT_EQ(now.reason, "DISK_RESERVED");
  EXPECT_TRUE(now.retry_after.has_value());
  const ErrorNotes never = Refused(admission, "a", {.stored_bytes = 20 * kMiB + 1});
  EXPECT_EQ(never.reason, "TOO_LARGE");
  EXPECT_FALSE(never.retry_after.has_value());
}

TEST(Admission, SaysSoOfWhatWillNeverFit) {
  Admission admission(
      {.memory_bytes = 10 * kMiB, .disk = [] { return DiskRoom{10 * kMiB, 10 * kMiB}; }});
  for (const JobNeeds& needs : {JobNeeds{.memory_bytes = 11 * kMiB},
                                JobNeeds{.temporary_bytes = 6 * kMiB, .stored_bytes = 5 * kMiB}}) {
    const ErrorNotes notes = Refused(admission, "a", needs);
    EXPECT_EQ(notes.reason, "TOO_LARGE");
    EXPECT_FALSE(notes.retry_after.has_value());  // it would be in vain
    EXPECT_THAT(notes.violations[0].description, HasSubstr("11.0 MiB"));
  }
  Admission any({});
  EXPECT_OK(any.Reserve("a", {.memory_bytes = int64_t{1} << 60, .stored_bytes = int64_t{1} << 60}));
}

TEST(Admission, TakesOnWhatWasAcceptedBefore) {
  Admission admission({.operations = 1, .operations_per_tenant = 1, .memory_bytes = kMiB});
  {
    const auto first = admission.TakeOn("a", {.memory_bytes = 5 * kMiB});
    const auto second = admission.TakeOn("a", {.memory_bytes = 5 * kMiB});
    EXPECT_EQ(admission.InAll().operations, 2);
    EXPECT_EQ(Refused(admission, "b", {}).reason, "QUEUE_FULL");
    EXPECT_EQ(Refused(admission, "a", {}).reason, "TENANT_QUOTA");
    EXPECT_EQ(Refused(admission, "b", {.memory_bytes = 1}).reason, "MEMORY_RESERVED");
  }
  EXPECT_OK(admission.Reserve("a", {.memory_bytes = kMiB}));
}

// Random requests and ends: what is accepted is what fits, by sums made anew each time.
TEST(Admission, NeverPassesALimitAndEndsAtZero) {
  constexpr int64_t kOperations = 12, kOfTenant = 5, kMemory = 100, kDisk = 300;
  constexpr int kRunning = 3;
  Admission::Use told;
  Admission admission({.operations = kOperations,
                       .operations_per_tenant = kOfTenant,
                       .running = kRunning,
                       .memory_bytes = kMemory,
                       .disk = [] { return DiskRoom{kDisk, kDisk}; },
                       .on_change = [&told](const Admission::Use& use) { told = use; }});
  struct Live {
    std::string tenant;
    JobNeeds needs;
    Admission::Reservation place;
  };
  std::vector<Live> live;
  const auto largest = [&live](int64_t JobNeeds::* bytes, int64_t more) {
    std::vector<int64_t> all = {more};
    for (const Live& one : live) all.push_back(one.needs.*bytes);
    std::sort(all.rbegin(), all.rend());
    all.resize(kRunning);
    return std::accumulate(all.begin(), all.end(), int64_t{0});
  };
  const auto of_tenant = [&live](const std::string& tenant) {
    return std::count_if(live.begin(), live.end(),
                         [&tenant](const Live& one) { return one.tenant == tenant; });
  };
  const auto stored = [&live] {
    int64_t sum = 0;
    for (const Live& one : live) sum += one.needs.stored_bytes;
    return sum;
  };
  std::mt19937 random(5);
  const auto draw = [&random](int64_t below) { return static_cast<int64_t>(random() % below); };
  int64_t accepted = 0, refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (!live.empty() && draw(2) == 0) {
      std::swap(live[draw(std::ssize(live))], live.back());
      live.pop_back();
    } else {
      const std::string tenant(1, static_cast<char>('a' + draw(4)));
      const JobNeeds needs{
          .memory_bytes = draw(60), .temporary_bytes = draw(40), .stored_bytes = draw(60)};
      const bool fits = std::ssize(live) < kOperations && of_tenant(tenant) < kOfTenant &&
                        (needs.memory_bytes == 0 ||
                         largest(&JobNeeds::memory_bytes, needs.memory_bytes) <= kMemory) &&
                        (needs.stored_bytes + needs.temporary_bytes == 0 ||
                         stored() + needs.stored_bytes +
                                 largest(&JobNeeds::temporary_bytes, needs.temporary_bytes) <=
                             kDisk);
      auto place = admission.Reserve(tenant, needs);
      ASSERT_EQ(place.ok(), fits) << place.status();
      ++(fits ? accepted : refused);
      if (fits) live.push_back({tenant, needs, *std::move(place)});
    }
    const Admission::Use use = admission.InAll();
    ASSERT_TRUE(told == use);
    ASSERT_EQ(use.operations, std::ssize(live));
    ASSERT_EQ(use.memory_bytes, largest(&JobNeeds::memory_bytes, 0));
    ASSERT_EQ(use.disk_bytes, stored() + largest(&JobNeeds::temporary_bytes, 0));
    ASSERT_LE(use.operations, kOperations);
    ASSERT_LE(use.memory_bytes, kMemory);
    ASSERT_LE(use.disk_bytes, kDisk);
    for (const std::string tenant : {"a", "b", "c", "d"}) {
      ASSERT_EQ(admission.OperationsOf(tenant), of_tenant(tenant));
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
  live.clear();
  const Admission::Use use = admission.InAll();
  EXPECT_TRUE(told == use);
  EXPECT_EQ(use.operations + use.memory_bytes + use.disk_bytes, 0);
}

}  // namespace
}  // namespace secateur
