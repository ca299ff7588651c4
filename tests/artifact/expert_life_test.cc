// Experts that end: when they can be seen, what extends them, and what goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/artifact/expert_store.h"
#include "server/artifact/manifest_files.h"
#include "server/base/errors.h"
#include "server/base/strings.h"
#include "server/storage/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/other_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kId = StrCat("e", std::string(40, '1'));
const std::string kOther = StrCat("e", std::string(40, '2'));
constexpr absl::Duration kHour = absl::Hours(1);
constexpr absl::Duration kMargin = absl::Minutes(10);

std::string SomeManifest() {
  return SealManifest(StrCat(R"({
  "files": [{"name":"a.txt","sizeBytes":"1","sha256":")",
                             Sha256Of("a").Hex(), R"("}],
  "formatVersion": 2,
  "sha256": ""
})"));
}

// One server: its view of the store, and its clock.
struct Replica {
  explicit Replica(BlobStore& store) : blobs(store) { EXPECT_OK(experts.Load()); }

  StoredExpert Publish(const Lifetime& lifetime, const std::string& id = kId) {
    const std::string prefix = experts.NewPrefix(id);
    EXPECT_OK(blobs.Put(prefix + "a.txt", "a"));
    const auto published = experts.Publish(id, prefix, SomeManifest(), lifetime);
    EXPECT_OK(published);
    return published.value_or(StoredExpert{});
  }
  std::optional<StoredExpert> AfterARestart() {
    ExpertStore again(blobs, clock);
    EXPECT_OK(again.Load());
    return again.Find(kId);
  }
  void Sweep() {
    EXPECT_OK(experts.Load());
    EXPECT_OK(experts.DeleteExpired(clock.Now()));
  }

  BlobStore& blobs;
  FakeClock clock;
  ExpertStore experts{blobs, clock};
};

std::vector<std::string> Keys(BlobStore& blobs) {
  const auto found = blobs.List("", "", 10'000);
  EXPECT_OK(found);
  std::vector<std::string> keys;
  for (const BlobInfo& blob : *found) keys.push_back(blob.key);
  return keys;
}

TEST(ExpertLife, IsForEverUnlessARequestSaysHowLong) {
  MemoryStore blobs;
  Replica server(blobs);
  const StoredExpert expert = server.Publish({});
  EXPECT_EQ(expert.expire_time, absl::InfiniteFuture());
  EXPECT_THAT(Keys(blobs), ElementsAre(expert.prefix + "a.txt", expert.prefix + "secateur.json"));
  server.clock.Advance(absl::Hours(1'000'000));
  server.Sweep();
  EXPECT_TRUE(server.experts.Find(kId).has_value());
  EXPECT_TRUE(server.AfterARestart().has_value());
}

TEST(ExpertLife, EndsAtItsTimeAlsoAfterARestartAndElsewhere) {
  MemoryStore blobs;
  Replica server(blobs);
  const absl::Time end = server.clock.Now() + kHour;
  EXPECT_EQ(server.Publish({.ttl = kHour}).expire_time, end);
  Replica other(blobs);
  server.clock.Advance(kHour - absl::Seconds(1));
  other.clock.Advance(kHour - absl::Seconds(1));
  for (const ExpertStore* store : {&server.experts, &other.experts}) {
    ASSERT_TRUE(store->Find(kId).has_value());
    EXPECT_EQ(store->Find(kId)->expire_time, end);
    EXPECT_THAT(store->List(), SizeIs(1));
  }
  EXPECT_EQ(server.AfterARestart()->expire_time, end);
  server.clock.Advance(absl::Seconds(1));
  other.clock.Advance(absl::Seconds(1));
  for (const ExpertStore* store : {&server.experts, &other.experts}) {
    EXPECT_FALSE(store->Find(kId).has_value());
    EXPECT_THAT(store->List(), IsEmpty());
  }
  EXPECT_FALSE(server.AfterARestart().has_value());
}

TEST(ExpertLife, IsAsLongAsTheLongestThatWasAskedFor) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 50; ++round) {
    MemoryStore blobs;
    Replica a(blobs), b(blobs);
    absl::Time longest = absl::InfinitePast();
    std::string prefix;
    for (int i = 0; i < 6; ++i) {
      const Lifetime lifetime{
          .ttl = random() % 12 == 0 ? absl::InfiniteDuration()
                                    : absl::Seconds(static_cast<int64_t>(random() % 100'000 + 1))};
      Replica& server = random() % 2 == 0 ? a : b;
      EXPECT_OK(server.experts.Load());
      longest = std::max(longest, lifetime.EndFrom(server.clock.Now()));
      const auto known = server.experts.Find(kId);
      const StoredExpert expert = known && random() % 2 == 0
                                      ? *server.experts.Extend(*known, lifetime)
                                      : server.Publish(lifetime);
      EXPECT_EQ(expert.expire_time, longest);
      EXPECT_EQ(server.experts.Find(kId)->expire_time, longest);
      EXPECT_TRUE(prefix.empty() || expert.prefix == prefix);  // it is not made again
      prefix = expert.prefix;
    }
    EXPECT_EQ(a.AfterARestart()->expire_time, longest);
    EXPECT_EQ(b.AfterARestart()->prefix, prefix);
  }
}

// The fold of any objects, written in any order by anyone, is the same everywhere.
TEST(ExpertLife, DoesNotDependOnTheOrderOfObjects) {
  std::mt19937_64 random(2);
  const absl::Time now = FakeClock().Now();
  for (int round = 0; round < 100; ++round) {
    std::vector<std::pair<std::string, std::string>> objects;
    absl::Time best = absl::InfinitePast();
    std::string prefix_of_best;
    for (const char* attempt : {"aa", "bb", "cc"}) {
      const std::string prefix = StrCat("experts/", kId, "/", attempt, "/");
      absl::Time end = absl::InfinitePast();
      for (uint64_t i = random() % 3; i > 0; --i) {
        const absl::Time time = random() % 8 == 0
                                    ? absl::InfiniteFuture()
                                    : now + absl::Hours(static_cast<int64_t>(random() % 7) - 2);
        if (objects.empty() || objects.back().first != prefix + ExpiryName(time)) {
          objects.emplace_back(prefix + ExpiryName(time), ExpiryText(ExpiryName(time)));
        }
        end = std::max(end, time);
      }
      if (end == absl::InfinitePast()) end = absl::InfiniteFuture();
      if (random() % 4 == 0) continue;  // no manifest: no expert
      objects.emplace_back(prefix + "secateur.json", SomeManifest());
      if (end > now && end > best) {
        best = end;
        prefix_of_best = prefix;
      }
    }
    for (int order = 0; order < 3; ++order) {
      std::shuffle(objects.begin(), objects.end(), random);
      MemoryStore blobs;
      Replica server(blobs);
      for (const auto& [key, bytes] : objects) {
        ASSERT_OK(blobs.Put(key, bytes));
        if (random() % 2 == 0) {
          EXPECT_OK(server.experts.Load());  // looks now and then
        }
      }
      EXPECT_OK(server.experts.Load());
      for (const auto& found : {server.experts.Find(kId), server.AfterARestart()}) {
        ASSERT_EQ(found.has_value(), best > now);
        if (!found) continue;
        EXPECT_EQ(found->expire_time, best);
        EXPECT_EQ(found->prefix, prefix_of_best);
      }
    }
  }
}

// Writing ends at the first key with an ending, as where a process is killed.
class DyingStore final : public OtherStore {
 public:
  DyingStore(BlobStore& store, std::string ending)
      : OtherStore(store), ending_(std::move(ending)) {}

  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    dead_ |= key.ends_with(ending_);
    return dead_ ? absl::UnavailableError("killed") : OtherStore::Create(key);
  }
  absl::Status Delete(const std::string& key) override {
    return dead_ ? absl::UnavailableError("killed") : OtherStore::Delete(key);
  }

 private:
  const std::string ending_;
  bool dead_ = false;
};

// The first list was begun before an end and the manifest behind it were written, and shows the
// manifest alone.
class LateStore final : public OtherStore {
 public:
  using OtherStore::OtherStore;

  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    auto list = OtherStore::List(prefix, start_after, limit);
    if (list.ok() && !std::exchange(listed_, true)) {
      std::erase_if(*list, [](const BlobInfo& blob) {
        return blob.key.find("/until-") != std::string::npos;
      });
    }
    return list;
  }

 private:
  bool listed_ = false;
};

// One call about a manifest fails, whatever it did.
class UnsureStore final : public OtherStore {
 public:
  UnsureStore(BlobStore& store, bool writes) : OtherStore(store), writes_(writes) {}

  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    if (writes_ && key.ends_with("secateur.json")) return absl::UnavailableError("no answer");
    return OtherStore::Create(key);
  }
  absl::StatusOr<BlobInfo> Head(const std::string& key) override {
    if (!writes_ && key.ends_with("secateur.json")) return absl::UnavailableError("no answer");
    return OtherStore::Head(key);
  }

 private:
  const bool writes_;
};

TEST(ExpertLife, BeginsWithFilesThatStayWhateverBecomesOfTheManifestsWrite) {
  for (const bool writes : {true, false}) {
    MemoryStore blobs;
    UnsureStore unsure(blobs, writes);
    FakeClock clock;
    ExpertStore experts(unsure, clock);
    const std::string prefix = experts.NewPrefix(kId);
    ASSERT_OK(blobs.Put(prefix + "a.txt", "a"));
    EXPECT_EQ(experts.Publish(kId, prefix, SomeManifest(), {}).ok(), !writes);
    EXPECT_THAT(Keys(blobs), Contains(prefix + "a.txt"));
    EXPECT_EQ(experts.Find(kId).has_value(), !writes);
  }
}

TEST(ExpertLife, IsNotEndedByAClockThatIsAheadOfTheStores) {
  MemoryStore blobs;
  Replica server(blobs);
  server.Publish({.ttl = kHour});
  const absl::Time store_now = server.clock.Now();
  const auto keys = Keys(blobs);
  server.clock.Advance(absl::Hours(24 * 30));
  ASSERT_OK(server.experts.Load());
  EXPECT_FALSE(server.experts.Find(kId).has_value());
  ASSERT_OK(server.experts.DeleteExpired(store_now));
  EXPECT_EQ(Keys(blobs), keys);
}

TEST(ExpertLife, IsSeenAlsoWhereAListMissesIt) {
  MemoryStore blobs;
  Replica server(blobs);
  server.Publish({.ttl = kHour});
  LateStore late(blobs);
  FakeClock clock;
  ExpertStore experts(late, clock);
  ASSERT_OK(experts.Load());
  EXPECT_EQ(experts.Find(kId)->expire_time, clock.Now() + kHour);
}

TEST(ExpertLife, IsKnownBeforeTheExpertIs) {
  const std::string end = ExpiryName(FakeClock().Now() + kHour);
  for (const std::string& ending : {end, std::string("secateur.json")}) {
    MemoryStore blobs;
    DyingStore dying(blobs, ending);
    FakeClock clock;
    ExpertStore experts(dying, clock);
    const std::string prefix = experts.NewPrefix(kId);
    ASSERT_OK(blobs.Put(prefix + "a.txt", "a"));
    EXPECT_THAT(experts.Publish(kId, prefix, SomeManifest(), {.ttl = kHour}),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_EQ(blobs.Head(prefix + end).ok(), ending != end);
    EXPECT_THAT(Keys(blobs), testing::Not(Contains(prefix + "secateur.json")));
    EXPECT_FALSE(experts.Find(kId).has_value());
  }
}

TEST(ExpertLife, ThatHasPassedPublishesNothing) {
  MemoryStore blobs;
  Replica server(blobs);
  const Lifetime over{.until = server.clock.Now()};
  const std::string prefix = server.experts.NewPrefix(kId);
  ASSERT_OK(blobs.Put(prefix + "a.txt", "a"));
  const auto published = server.experts.Publish(kId, prefix, SomeManifest(), over);
  EXPECT_THAT(published, StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("2023-11-14T22:13:20+00:00")));
  EXPECT_EQ(NotesOf(published.status()).reason, "EXPIRED");
  EXPECT_THAT(Keys(blobs), IsEmpty());
}

TEST(ExpertLife, OverTheExpertIsMadeAnewAndTheOldOneGoes) {
  MemoryStore blobs;
  Replica server(blobs);
  const StoredExpert old = server.Publish({.ttl = kHour});
  server.clock.Advance(kHour);
  const StoredExpert anew = server.Publish({.ttl = kHour});
  EXPECT_NE(anew.prefix, old.prefix);
  EXPECT_EQ(server.experts.Find(kId)->prefix, anew.prefix);
  EXPECT_EQ(server.AfterARestart()->prefix, anew.prefix);
  server.clock.Advance(kMargin);
  server.Sweep();
  EXPECT_THAT(Keys(blobs), testing::Each(testing::StartsWith(anew.prefix)));
  EXPECT_THAT(Keys(blobs), SizeIs(3));
  EXPECT_EQ(server.experts.Find(kId)->prefix, anew.prefix);
}

TEST(ExpertLife, OverItsFilesGoTenMinutesLaterAndThoseOfOthersStay) {
  MemoryStore blobs;
  Replica server(blobs);
  const StoredExpert other = server.Publish({.ttl = 2 * kHour}, kOther);
  server.Publish({.ttl = kHour});
  const size_t all = Keys(blobs).size();
  server.clock.Advance(kHour + kMargin - absl::Seconds(1));
  server.Sweep();
  EXPECT_THAT(Keys(blobs), SizeIs(all));
  server.clock.Advance(absl::Seconds(1));
  server.Sweep();
  EXPECT_THAT(Keys(blobs), testing::Each(testing::StartsWith(other.prefix)));
  EXPECT_THAT(Keys(blobs), SizeIs(3));
  server.Sweep();
  EXPECT_TRUE(server.experts.Find(kOther).has_value());
}

// The other's clock is behind by more than servers should be.
TEST(ExpertLife, ExtendedBetweenTheLookAndTheDeletionTheExpertStays) {
  MemoryStore blobs;
  Replica sweeper(blobs), slow(blobs);
  slow.Publish({.ttl = kHour});
  sweeper.clock.Advance(kHour + kMargin);
  ASSERT_OK(sweeper.experts.Load());
  ASSERT_OK(slow.experts.Extend(*slow.experts.Find(kId), {.ttl = 3 * kHour}));
  ASSERT_OK(sweeper.experts.DeleteExpired(sweeper.clock.Now()));
  ASSERT_OK(sweeper.experts.Load());
  EXPECT_TRUE(sweeper.experts.Find(kId).has_value());
}

TEST(ExpertLife, CannotBeExtendedOnceAnotherServerHasDeletedTheExpert) {
  MemoryStore blobs;
  Replica a(blobs);
  const StoredExpert old = a.Publish({.ttl = kHour});
  Replica b(blobs);
  ASSERT_OK(b.experts.Delete(kId));
  EXPECT_THAT(a.experts.Extend(*a.experts.Find(kId), {}), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(a.experts.Find(kId).has_value());
  const StoredExpert anew = a.Publish({});
  EXPECT_NE(anew.prefix, old.prefix);
  ASSERT_OK(b.experts.Load());
  EXPECT_EQ(b.experts.Find(kId)->expire_time, absl::InfiniteFuture());
}

TEST(ExpertLife, OfADeletedExpertSaysNothingOfOneThatIsMadeLater) {
  MemoryStore blobs;
  Replica server(blobs);
  server.Publish({});
  ASSERT_OK(server.experts.Delete(kId));
  server.Publish({.ttl = kHour});
  server.clock.Advance(kHour);
  EXPECT_FALSE(server.experts.Find(kId).has_value());
  ASSERT_OK(server.experts.Delete(kId));
  EXPECT_THAT(Keys(blobs), IsEmpty());
}

}  // namespace
}  // namespace secateur
