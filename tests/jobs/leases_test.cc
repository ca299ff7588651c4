#include "server/jobs/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/storage/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

// A process of another machine, of which nothing can be known.
const ProcessId kElsewhere{.host = "another machine", .pid = 1, .start = 1};

class LeasesTest : public testing::Test {
 protected:
  Leases Other(const Clock& clock) {
    return Leases(blobs_, clock, {.ttl = absl::Seconds(60), .self = kElsewhere});
  }
  // What a process sees that looks at the store now.
  bool IsAlive(Leases& seer, const std::string& owner) {
    EXPECT_OK(seer.Renew());
    EXPECT_OK(seer.Look());
    return seer.Alive(owner);
  }
  std::vector<BlobInfo> Stored() { return *blobs_.List("", "", 1000); }

  FakeClock clock_;  // the store's
  MemoryStore blobs_{clock_};
};

TEST_F(LeasesTest, AProcessIsAliveUntilItsLeaseIsTooOldByTheStoresClock) {
  FakeClock stopped;  // nobody's own clock matters for what others think
  Leases a = Other(clock_), b = Other(clock_);
  ASSERT_OK(a.Renew());
  EXPECT_TRUE(IsAlive(b, a.owner()));
  clock_.Advance(absl::Seconds(59));
  EXPECT_TRUE(IsAlive(b, a.owner()));
  clock_.Advance(absl::Seconds(10));  // b renews, which tells it the time
  EXPECT_FALSE(IsAlive(b, a.owner()));
  EXPECT_EQ(b.alive(), std::set<std::string>{b.owner()});
  ASSERT_OK(a.Renew());  // it was only slow
  EXPECT_TRUE(IsAlive(b, a.owner()));
  EXPECT_FALSE(b.Alive("0000000000000000"));
}

TEST_F(LeasesTest, ItsOwnClockMayBeWrongByYears) {
  FakeClock wrong;
  wrong.Advance(absl::Hours(24 * 3650));
  Leases a = Other(clock_), b = Other(wrong);
  ASSERT_OK(a.Renew());
  EXPECT_TRUE(IsAlive(b, a.owner()));
  EXPECT_TRUE(b.held());
  EXPECT_TRUE(IsAlive(a, b.owner()));
}

TEST_F(LeasesTest, AReleasedLeaseIsGoneAtOnceAndNotWrittenAgain) {
  Leases a = Other(clock_), b = Other(clock_);
  ASSERT_OK(a.Renew());
  EXPECT_TRUE(a.held());
  EXPECT_TRUE(IsAlive(b, a.owner()));
  a.Release();
  EXPECT_FALSE(a.held());
  EXPECT_FALSE(a.Alive(a.owner()));
  clock_.Advance(absl::Seconds(10));
  ASSERT_OK(a.Renew());
  EXPECT_FALSE(IsAlive(b, a.owner()));
}

TEST_F(LeasesTest, AProcessOfThisMachineThatHasEndedIsNotAlive) {
  ProcessId gone = ProcessId::OfThis();
  ASSERT_FALSE(gone.host.empty());
  ++gone.start;  // its number was given to this process later
  Leases a(blobs_, clock_, {.self = gone});
  Leases b(blobs_, clock_, {.self = ProcessId::OfThis()});
  Leases c(blobs_, clock_, {.self = ProcessId::OfThis()});
  ASSERT_OK(a.Renew());
  ASSERT_OK(b.Renew());
  EXPECT_FALSE(IsAlive(c, a.owner()));
  EXPECT_TRUE(IsAlive(c, b.owner()));
}

TEST_F(LeasesTest, RenewsSixTimesWithinItsTimeAndKeepsFewObjects) {
  Leases a = Other(clock_);
  ASSERT_OK(a.Renew());
  ASSERT_OK(a.Renew());  // too soon
  EXPECT_THAT(Stored(), SizeIs(1));
  for (int i = 0; i < 50; ++i) {
    clock_.Advance(absl::Seconds(10));
    ASSERT_OK(a.Renew());
    EXPECT_LE(Stored().size(), 2U);
    EXPECT_EQ(a.store_now(), clock_.Now());
  }
  // The last but one stays for those who list right now.
  EXPECT_THAT(Stored(), SizeIs(2));
  a.Release();
  EXPECT_THAT(Stored(), IsEmpty());
}

TEST_F(LeasesTest, IsNotHeldOnceOthersMayThinkThatItLapsed) {
  Leases a = Other(clock_);
  EXPECT_FALSE(a.held());
  ASSERT_OK(a.Renew());
  clock_.Advance(absl::Seconds(59));
  EXPECT_TRUE(a.held());
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(a.held());
  ASSERT_OK(a.Renew());
  EXPECT_TRUE(a.held());
}

TEST_F(LeasesTest, ALeaseCountsAsLongAsItSaysItself) {
  Leases a(blobs_, clock_, {.ttl = absl::Seconds(600), .self = kElsewhere});
  Leases b = Other(clock_);
  ASSERT_OK(a.Renew());
  clock_.Advance(absl::Seconds(599));
  EXPECT_TRUE(IsAlive(b, a.owner()));
  clock_.Advance(absl::Seconds(10));
  EXPECT_FALSE(IsAlive(b, a.owner()));
}

TEST_F(LeasesTest, ADamagedLeaseCountsAsOneOfThisKind) {
  Leases b = Other(clock_);
  ASSERT_OK(blobs_.Put("replicas/00000000000000aa/000000001", "damaged"));
  EXPECT_TRUE(IsAlive(b, "00000000000000aa"));
  clock_.Advance(absl::Seconds(61));
  EXPECT_FALSE(IsAlive(b, "00000000000000aa"));
}

TEST_F(LeasesTest, LeasesThatLapsedLongAgoAreRemoved) {
  Leases a = Other(clock_), b = Other(clock_);
  ASSERT_OK(a.Renew());
  clock_.Advance(absl::Hours(24));
  EXPECT_FALSE(IsAlive(b, a.owner()));
  EXPECT_THAT(Stored(), SizeIs(1));
}

}  // namespace
}  // namespace secateur
