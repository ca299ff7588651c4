#include "server/admin/collect_garbage.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

#include "server/corpus/corpus_meta.h"
#include "server/storage/memory_store.h"
#include "tests/admin/store_fixture.h"
#include "tests/support/fake_clock.h"
#include "tests/support/other_store.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::Not;

constexpr char kUpload[] = "tenants/default/uploads/orphan.jsonl";

std::vector<std::string> KeysOf(const GarbageReport& report) {
  std::vector<std::string> keys;
  for (const auto& removed : report.removed) keys.push_back(removed.key);
  return keys;
}

class CollectGarbageTest : public AdminTest {
 protected:
  GarbageReport Collect(const GarbageOptions& options = {}) {
    const auto report = CollectGarbage(*root_, Clock::System(), options);
    EXPECT_OK(report);
    return report.value_or(GarbageReport{});
  }
  std::string AddAttempt(char id, int hours) {
    const std::string key =
        StrCat("tenants/default/experts/e", std::string(40, id), "/0000000000000000/config.json");
    EXPECT_OK(root_->Put(key, "{}").status());
    Age(key, hours);
    return key;
  }
  // An expert of two files that ended `hours` ago and was written a day before that; its keys, the
  // manifest first.
  std::vector<std::string> AddEnded(int hours) {
    FakeClock clock;
    clock.Advance(absl::Now() - clock.Now() - absl::Hours(hours + 24));
    ExpertStore experts(*tenant_, clock);
    v1::Manifest manifest = SomeManifest({{"config.json", "{}"}});
    manifest.mutable_request()->set_algorithm_version(7);  // another expert than the fixture's
    const std::string id = ExpertIdOf(manifest.request());
    const std::string prefix = experts.NewPrefix(id);
    EXPECT_OK(tenant_->Put(prefix + "config.json", "{}"));
    EXPECT_OK(experts.Publish(id, prefix, *ManifestText(manifest), {.ttl = absl::Hours(24)}));
    const auto blobs = root_->List(StrCat("tenants/default/", prefix), "", 10);
    EXPECT_OK(blobs);
    std::vector<std::string> keys;
    for (const BlobInfo& blob : *blobs) keys.push_back(blob.key);
    for (const std::string& key : keys) Age(key, hours + 24);
    std::swap(keys[0], keys[1]);  // "config.json" comes before "secateur.json"
    return keys;
  }
  void AddUpload(int hours) {
    ASSERT_OK(root_->Put(kUpload, "{\"text\":\"x\"}\n"));
    Age(kUpload, hours);
  }
};

TEST_F(CollectGarbageTest, OnlyOrphansOlderThanTheGracePeriodGoAndASecondRunFindsNothing) {
  AgeAll(100);
  Age(StrCat("tenants/default/replicas/", leases_->owner(), "/000000001"), 0);
  const std::vector<std::string> live = Keys();
  const std::string old = AddAttempt('a', 25);
  const std::string young = AddAttempt('b', 23);
  AddUpload(25);
  const GarbageReport report = Collect();
  EXPECT_THAT(KeysOf(report), ElementsAre(old, kUpload));
  EXPECT_EQ(report.bytes(), 2 + 13);
  EXPECT_EQ(report.younger, 1);
  std::vector<std::string> left = live;
  left.push_back(young);
  std::sort(left.begin(), left.end());
  EXPECT_EQ(Keys(), left);
  EXPECT_THAT(Collect().removed, IsEmpty());
}

TEST_F(CollectGarbageTest, WhatAKilledServerLeftOfAWriteGoesInFoldersAndBuckets) {
  const std::string name = "tenants/default/.tmp/" + std::string(32, 'a');
  for (const std::string& key : {name + "/object", name + "b"}) {
    ASSERT_OK(root_->Put(key, "half"));
    Age(key, 25);
  }
  EXPECT_THAT(KeysOf(Collect()), ElementsAre(name + "/object", name + "b"));
}

TEST_F(CollectGarbageTest, AnAttemptWrittenWhileAnOperationIsNotDoneStays) {
  const std::string before = AddAttempt('a', 60);
  AddAttempt('b', 30);
  const std::string id = "o" + std::string(40, '2');
  AddOperation(id, /*done=*/false);
  Age(StrCat("tenants/default/operations/", id, "/000001.", kOwner, ".000001"), 40);
  const GarbageReport report = Collect();
  EXPECT_THAT(KeysOf(report), ElementsAre(before));
  EXPECT_EQ(report.kept, 1);
}

TEST_F(CollectGarbageTest, LeasesOfProcessesThatEndedGoAndThoseThatAreRenewedStay) {
  Leases dead(*tenant_, Clock::System(), Leases::Options{});
  ASSERT_OK(dead.Renew());
  const std::string key = StrCat("tenants/default/replicas/", dead.owner(), "/000000001");
  Age(key, 30);
  EXPECT_THAT(KeysOf(Collect()), ElementsAre(key));
}

TEST_F(CollectGarbageTest, ADryRunChangesNothingAndNamesWhatWouldGo) {
  const std::string attempt = AddAttempt('a', 25);
  AddUpload(25);
  const std::vector<std::string> before = Keys();
  const GarbageReport report = Collect({.dry_run = true});
  EXPECT_THAT(KeysOf(report), ElementsAre(attempt, kUpload));
  EXPECT_EQ(Keys(), before);
}

TEST_F(CollectGarbageTest, AnExpertThatEndedGoesAfterTheGracePeriodItsManifestFirst) {
  const std::vector<std::string> before = Keys();
  const std::vector<std::string> ended = AddEnded(25);
  ASSERT_EQ(ended.size(), 3u);
  EXPECT_TRUE(ended[0].ends_with("secateur.json"));
  const GarbageReport dry = Collect({.dry_run = true});
  EXPECT_EQ(KeysOf(dry), ended);
  EXPECT_EQ(dry.removed[0].what, "expired expert");
  EXPECT_OK(root_->Head(ended[0]));
  EXPECT_EQ(KeysOf(Collect()), ended);
  EXPECT_EQ(Keys(), before);
}

TEST_F(CollectGarbageTest, AnExpertThatEndedWithinTheGracePeriodStays) {
  const std::vector<std::string> ended = AddEnded(23);
  const GarbageReport report = Collect();
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_EQ(report.younger, std::ssize(ended));
}

TEST_F(CollectGarbageTest, AProfileGoesWithItsCorpus) {
  const auto profiles = root_->List("tenants/default/profiles/", "", 10);
  ASSERT_OK(profiles);
  ASSERT_EQ(profiles->size(), 1u);
  const std::string profile = (*profiles)[0].key;
  AgeAll(25);
  EXPECT_THAT(Collect({.dry_run = true}).removed,
              Not(Contains(Field(&GarbageReport::Removed::key, profile))));
  CorpusStore corpora(*tenant_, Clock::System());
  ASSERT_OK(corpora.Load());
  ASSERT_OK(corpora.Delete(corpus_.id()));
  EXPECT_THAT(KeysOf(Collect({.dry_run = true})), Contains(profile));
  Age(profile, 23);
  EXPECT_EQ(Collect({.dry_run = true}).younger, 1);
  Age(profile, 25);
  EXPECT_THAT(KeysOf(Collect()), Contains(profile));
  EXPECT_THAT(root_->Head(profile), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CollectGarbageTest, ProfilesStayWhileAMetaObjectOrTheyCannotBeRead) {
  std::string meta, profile;
  for (const std::string& key : Keys()) {
    if (key.find("/meta-") != std::string::npos) meta = key;
    if (key.find("/profiles/") != std::string::npos) profile = key;
  }
  dir_.Write(meta, "damaged");
  AgeAll(25);
  Collect();
  EXPECT_OK(root_->Head(profile));
  ASSERT_OK(root_->Delete(meta));
  dir_.Write(profile, "damaged");
  Age(profile, 25);
  Collect();
  EXPECT_OK(root_->Head(profile));
}

TEST_F(CollectGarbageTest, DocumentsStayWhileAMetaObjectCannotBeRead) {
  AddUpload(25);
  for (const std::string& key : Keys()) {
    if (key.find("/meta-") != std::string::npos) dir_.Write(key, "damaged");
  }
  EXPECT_THAT(Collect().removed, IsEmpty());
}

// Does something just before the listing that looks again at `prefix`.
class Meddler final : public OtherStore {
 public:
  Meddler(BlobStore& store, std::string prefix, std::function<void()> meddle)
      : OtherStore(store), prefix_(std::move(prefix)), meddle_(std::move(meddle)) {}

  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    if (prefix == prefix_ && meddle_) std::exchange(meddle_, nullptr)();
    return OtherStore::List(prefix, start_after, limit);
  }

 private:
  const std::string prefix_;
  std::function<void()> meddle_;
};

TEST_F(CollectGarbageTest, AnAttemptThatGetsItsManifestBetweenMarkAndSweepStays) {
  const std::string key = AddAttempt('a', 25);
  const std::string folder = key.substr(0, key.rfind('/') + 1);
  Meddler store(*root_, folder,
                [&] { ASSERT_OK(root_->Put(folder + "secateur.json", "{}").status()); });
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(store, Clock::System(), {}));
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_EQ(report.kept, 1);
  EXPECT_OK(root_->Head(key));
}

TEST_F(CollectGarbageTest, AnExpertThatIsExtendedBetweenMarkAndSweepStays) {
  const std::string manifest = AddEnded(25)[0];
  const std::string folder = manifest.substr(0, manifest.rfind('/') + 1);
  Meddler store(*root_, folder, [&] {
    ASSERT_OK(root_->Put(folder + "until-never", ExpiryText("until-never")).status());
  });
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(store, Clock::System(), {}));
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_EQ(report.kept, 3);
  EXPECT_OK(root_->Head(manifest));
}

TEST_F(CollectGarbageTest, AProfileWhoseCorpusComesBetweenMarkAndSweepStays) {
  CorpusStore corpora(*tenant_, Clock::System());
  ASSERT_OK(corpora.Load());
  ASSERT_OK(corpora.Delete(corpus_.id()));
  AgeAll(25);
  Meddler store(*root_, "tenants/default/corpora/", [&] { AddCorpus(); });
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(store, Clock::System(), {}));
  for (const std::string& key : KeysOf(report))
    EXPECT_EQ(key.find("/profiles/"), std::string::npos);
  EXPECT_EQ(report.kept, 1);
}

TEST_F(CollectGarbageTest, DocumentsThatGetTheirMetaObjectBetweenMarkAndSweepStay) {
  AddUpload(25);
  StoredCorpus corpus;
  corpus.info.digest = Sha256Of("{\"text\":\"x\"}\n");
  corpus.documents_key = "uploads/orphan.jsonl";
  Meddler store(*root_, "tenants/default/corpora/", [&] {
    ASSERT_OK(tenant_->Put(MetaKey(corpus.info.id(), 1), EncodeMeta(corpus)).status());
  });
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(store, Clock::System(), {}));
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_OK(root_->Head(kUpload));
}

TEST(CollectGarbageInMemoryTest, AgesAreByTheStoresClock) {
  FakeClock clock;
  MemoryStore store(clock);
  ASSERT_OK(store.Put(kUpload, "x"));
  clock.Advance(absl::Hours(23));
  ASSERT_OK_AND_ASSIGN(const GarbageReport early, CollectGarbage(store, Clock::System(), {}));
  EXPECT_THAT(early.removed, IsEmpty());
  clock.Advance(absl::Hours(2));
  ASSERT_OK_AND_ASSIGN(const GarbageReport late, CollectGarbage(store, Clock::System(), {}));
  EXPECT_THAT(KeysOf(late), ElementsAre(kUpload));
  EXPECT_THAT(*store.List("", "", 10), IsEmpty());
}

}  // namespace
}  // namespace secateur
