// How long an expert lives, and the names that say so.
#include "server/artifact/expiry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace secateur {
namespace {

absl::Time At(const char* text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error)) << text << error;
  return time;
}

TEST(Lifetime, EndsAtTheEarlierOfBothRoundedUpToASecond) {
  const absl::Time now = At("2026-11-27T10:00:00.25Z");
  EXPECT_EQ(Lifetime{}.EndFrom(now), absl::InfiniteFuture());
  EXPECT_EQ(Lifetime{.ttl = absl::Seconds(1)}.EndFrom(now), At("2026-11-27T10:00:02Z"));
  EXPECT_EQ(Lifetime{.ttl = absl::Milliseconds(750)}.EndFrom(now), At("2026-11-27T10:00:01Z"));
  EXPECT_EQ(Lifetime{.until = At("2026-11-28T00:00:00Z")}.EndFrom(now), At("2026-11-28T00:00:00Z"));
  const Lifetime both{.until = At("2026-11-27T10:00:05Z"), .ttl = absl::Seconds(1)};
  EXPECT_EQ(both.EndFrom(now), At("2026-11-27T10:00:02Z"));
  EXPECT_EQ(both.EndFrom(now + absl::Seconds(4.5)), At("2026-11-27T10:00:05Z"));
  EXPECT_EQ(Lifetime{.ttl = absl::Hours(1e9)}.EndFrom(now), LastExpiry());
}

TEST(ExpiryName, ComesBackAndSortsAsTheTimesDo) {
  std::mt19937_64 random(1);
  std::vector<absl::Time> times = {LastExpiry(), absl::FromUnixSeconds(0), absl::InfiniteFuture()};
  for (int i = 0; i < 1000; ++i) {
    times.push_back(absl::FromUnixSeconds(static_cast<int64_t>(random() % 253'402'300'799)));
  }
  std::sort(times.begin(), times.end());
  std::vector<std::string> names;
  for (const absl::Time time : times) {
    names.push_back(ExpiryName(time));
    EXPECT_EQ(ExpiryOfName(names.back()), time) << names.back();
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(names.back(), "until-never");
  EXPECT_EQ(ExpiryName(At("2026-12-31T23:59:59Z")), "until-20261231T235959Z");
}

TEST(ExpiryName, OfAnyOtherFormSaysNothing) {
  for (const char* name :
       {"", "until", "until-", "until-Never", "until-never ", "until-20261231T235959",
        "until-20261231T235960Z", "until-20261301T000000Z", "until-2026123T235959Z",
        "until-20261231T235959Z ", " until-20261231T235959Z", "until-+0261231T235959Z",
        "until-20261231t235959z", "config.json", "until-120261231T235959Z"}) {
    EXPECT_EQ(ExpiryOfName(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace secateur
