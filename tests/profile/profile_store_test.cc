#include "server/profile/profile_store.h"

#include <cstring>

#include "server/storage/memory_store.h"
#include "tests/profile/random_profile.h"
#include "tests/support/meanwhile_store.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr int64_t kLayers = 2;
constexpr int64_t kChannels = 5;

Profile MakeProfile(uint64_t seed) {
  return ProfileOf(MakeDocuments(4, kLayers, kChannels, seed), kLayers, kChannels);
}

class StoppedClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000'000);
};

class ProfileStoreTest : public testing::Test {
 protected:
  std::vector<std::string> Objects() {
    const std::vector<BlobInfo> blobs = blobs_.List("profiles/", "", 1000).value();
    std::vector<std::string> keys;
    for (const BlobInfo& blob : blobs) keys.push_back(blob.key);
    return keys;
  }
  void Replace(const std::string& key, const std::string& bytes) {
    ASSERT_OK(blobs_.Delete(key));
    ASSERT_OK(blobs_.Put(key, bytes).status());
  }
  std::string Bytes(const std::string& key) { return blobs_.ReadAll(key, 1 << 20).value(); }
  static std::string Name(const std::string& id, const std::string& bytes) {
    return absl::StrCat("profiles/", id, "/", Sha256Of(bytes).Hex(), ".safetensors");
  }

  StoppedClock clock_;
  MemoryStore blobs_{clock_};
  Metrics metrics_{"test"};
  ProfileStore store_{blobs_, metrics_};
};

TEST_F(ProfileStoreTest, FindsAndReadsWhatWasPut) {
  const Profile profile = MakeProfile(1);
  const ProfileKey key = AnyKey();
  EXPECT_EQ(store_.Find(key.id()), std::nullopt);
  ASSERT_OK_AND_ASSIGN(const ProfileInfo info, store_.Put(key, profile));
  const std::string bytes = FileOf(profile, key);
  EXPECT_EQ(info.id(), key.id());
  EXPECT_EQ(info.content, Sha256Of(bytes));
  EXPECT_EQ(info.bytes, static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(info.documents, 4);
  EXPECT_EQ(info.tokens, 40);
  EXPECT_EQ(info.dropped_tokens, 4);
  EXPECT_EQ(info.create_time, clock_.now);
  EXPECT_THAT(Objects(), ElementsAre(Name(key.id(), bytes)));
  EXPECT_TRUE(store_.Find(key.id()).has_value());
  ASSERT_OK_AND_ASSIGN(const Profile read, store_.Read(key.id()));
  EXPECT_TRUE(read == profile);
}

TEST_F(ProfileStoreTest, FindsAfterALoadWhatAnotherStorePut) {
  ProfileKey other = AnyKey();
  other.corpus_digest = Sha256Of("another corpus");
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  ASSERT_OK(store_.Put(other, MakeProfile(2)).status());
  ProfileStore second(blobs_, metrics_);
  EXPECT_THAT(second.List(), IsEmpty());
  ASSERT_OK(second.Load());
  const std::vector<ProfileInfo> first_list = store_.List();
  const std::vector<ProfileInfo> second_list = second.List();
  ASSERT_THAT(second_list, SizeIs(2));
  EXPECT_LT(second_list[0].id(), second_list[1].id());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(second_list[i].id(), first_list[i].id());
    EXPECT_EQ(second_list[i].content, first_list[i].content);
    EXPECT_EQ(second_list[i].key.model, "tiny");
    EXPECT_EQ(second_list[i].key.corpus_digest, first_list[i].key.corpus_digest);
    EXPECT_EQ(second_list[i].documents, 4);
    EXPECT_EQ(second_list[i].tokens, 40);
    EXPECT_EQ(second_list[i].dropped_tokens, 4);
    EXPECT_EQ(second_list[i].bytes, first_list[i].bytes);
    EXPECT_EQ(second_list[i].create_time, clock_.now);
  }
  ASSERT_OK_AND_ASSIGN(const Profile read, second.Read(other.id()));
  EXPECT_TRUE(read == MakeProfile(2));
}

TEST_F(ProfileStoreTest, PutsTheSameProfileOnce) {
  ASSERT_OK_AND_ASSIGN(const ProfileInfo first, store_.Put(AnyKey(), MakeProfile(1)));
  ASSERT_OK_AND_ASSIGN(const ProfileInfo second, store_.Put(AnyKey(), MakeProfile(1)));
  EXPECT_EQ(first.content, second.content);
  EXPECT_THAT(Objects(), SizeIs(1));
}

TEST_F(ProfileStoreTest, KeepsTheLatestOfSeveralProfilesOfOneKey) {
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  clock_.now += absl::Seconds(1);
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(2)).status());
  EXPECT_THAT(Objects(), SizeIs(2));
  ProfileStore second(blobs_, metrics_);
  ASSERT_OK(second.Load());
  for (const ProfileStore* store : {&store_, &second}) {
    ASSERT_OK_AND_ASSIGN(const Profile read, store->Read(AnyKey().id()));
    EXPECT_TRUE(read == MakeProfile(2));
  }
}

// Checks that a store that knows of the profile misses it, deletes it, and takes it again.
void ExpectMissAndHeal(BlobStore& blobs, ProfileStore& store, const std::string& object,
                       const Profile& profile) {
  EXPECT_THAT(store.Read(AnyKey().id()), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(store.Find(AnyKey().id()), std::nullopt);
  EXPECT_THAT(blobs.Head(object), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(store.Put(AnyKey(), profile).status());
  ASSERT_OK_AND_ASSIGN(const Profile read, store.Read(AnyKey().id()));
  EXPECT_TRUE(read == profile);
}

TEST_F(ProfileStoreTest, MissesEveryFlippedByteAndHeals) {
  const Profile profile = MakeProfile(1);
  ASSERT_OK(store_.Put(AnyKey(), profile).status());
  const std::string object = Objects()[0];
  const std::string bytes = Bytes(object);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    Replace(object, flipped);
    ExpectMissAndHeal(blobs_, store_, object, profile);
  }
  EXPECT_THAT(
      metrics_.Scrape(),
      HasSubstr(absl::StrCat("secateur_corrupt_objects_total{kind=\"profile\"} ", bytes.size())));
}

TEST_F(ProfileStoreTest, MissesEveryTruncationAndHeals) {
  const Profile profile = MakeProfile(1);
  ASSERT_OK(store_.Put(AnyKey(), profile).status());
  const std::string object = Objects()[0];
  const std::string bytes = Bytes(object);
  for (size_t size = 0; size < bytes.size(); size += 17) {
    Replace(object, bytes.substr(0, size));
    ExpectMissAndHeal(blobs_, store_, object, profile);
  }
  Replace(object, bytes + "x");
  ExpectMissAndHeal(blobs_, store_, object, profile);
}

TEST_F(ProfileStoreTest, LoadsNothingThatItCouldNotRead) {
  const Profile profile = MakeProfile(1);
  ASSERT_OK(store_.Put(AnyKey(), profile).status());
  const std::string object = Objects()[0];
  const std::string bytes = Bytes(object);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  for (size_t i = 0; i < 8 + header; ++i) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    Replace(object, flipped);
    ProfileStore second(blobs_, metrics_);
    ASSERT_OK(second.Load());
    EXPECT_THAT(second.Read(AnyKey().id()), StatusIs(absl::StatusCode::kNotFound)) << i;
    ASSERT_OK(second.Put(AnyKey(), profile).status());
  }
}

TEST_F(ProfileStoreTest, DeletesWhatItCannotParseWhileLoading) {
  const std::string id = AnyKey().id();
  const std::string moved = FileOf(MakeProfile(1));
  const std::string wrong_id = "p" + std::string(40, '0');
  ASSERT_OK(blobs_.Put(Name(id, "junk"), "junk").status());
  ASSERT_OK(blobs_.Put(Name(wrong_id, moved), moved).status());
  ASSERT_OK(blobs_.Put("profiles/README", "not ours").status());
  ASSERT_OK(store_.Load());
  EXPECT_THAT(store_.List(), IsEmpty());
  EXPECT_THAT(Objects(), ElementsAre("profiles/README"));
  EXPECT_THAT(metrics_.Scrape(), HasSubstr("secateur_corrupt_objects_total{kind=\"profile\"} 2"));
}

TEST_F(ProfileStoreTest, LeavesOtherFormatsAlone) {
  std::vector<std::string> objects;
  for (const char other : {'3', '5'}) {
    std::string bytes = FileOf(MakeProfile(1));
    const std::string version = "\"format_version\":\"4\"";
    ASSERT_NE(bytes.find(version), std::string::npos);
    bytes[bytes.find(version) + version.size() - 2] = other;
    objects.push_back(Name(AnyKey().id(), bytes));
    ASSERT_OK(blobs_.Put(objects.back(), bytes).status());
  }
  ASSERT_OK(store_.Load());
  EXPECT_THAT(store_.List(), IsEmpty());
  EXPECT_THAT(Objects(), testing::UnorderedElementsAreArray(objects));
  EXPECT_THAT(metrics_.Scrape(), Not(HasSubstr("kind=\"profile\"")));
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  EXPECT_OK(store_.Read(AnyKey().id()).status());
}

TEST_F(ProfileStoreTest, MissesProfilesOfAnotherScoringVersion) {
  ProfileKey older = AnyKey();
  older.scoring_version = kScoringVersion - 1;
  ASSERT_OK(store_.Put(older, MakeProfile(1)).status());
  EXPECT_EQ(store_.Find(AnyKey().id()), std::nullopt);
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(2)).status());
  ASSERT_OK_AND_ASSIGN(const Profile read, store_.Read(AnyKey().id()));
  EXPECT_TRUE(read == MakeProfile(2));
  EXPECT_TRUE(store_.Find(older.id()).has_value());
}

TEST_F(ProfileStoreTest, PutReplacesACorruptObjectOfTheSameName) {
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  const std::string object = Objects()[0];
  std::string bytes = Bytes(object);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  Replace(object, bytes);
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  EXPECT_OK(store_.Read(AnyKey().id()).status());
}

TEST_F(ProfileStoreTest, MissesAnObjectThatIsGone) {
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  ASSERT_OK(blobs_.Delete(Objects()[0]));
  EXPECT_THAT(store_.Read(AnyKey().id()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(AnyKey().id())));
  EXPECT_EQ(store_.Find(AnyKey().id()), std::nullopt);
}

TEST_F(ProfileStoreTest, DeletesAllObjectsOfAnId) {
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(1)).status());
  ASSERT_OK(store_.Put(AnyKey(), MakeProfile(2)).status());
  ASSERT_OK(store_.Delete(AnyKey().id()));
  EXPECT_EQ(store_.Find(AnyKey().id()), std::nullopt);
  EXPECT_THAT(Objects(), IsEmpty());
  EXPECT_OK(store_.Delete(AnyKey().id()));
  EXPECT_OK(store_.Delete("no such id"));
  EXPECT_OK(store_.Delete(""));
}

TEST_F(ProfileStoreTest, KnowsNothingThatIsDeletedWhileItIsPut) {
  MeanwhileStore blobs(blobs_);
  ProfileStore store(blobs, metrics_);
  blobs.Next([&store] { EXPECT_OK(store.Delete(AnyKey().id())); });
  EXPECT_OK(store.Put(AnyKey(), MakeProfile(1)).status());
  blobs.Join();
  EXPECT_EQ(store.Find(AnyKey().id()), std::nullopt);
  EXPECT_THAT(Objects(), IsEmpty());
}

TEST_F(ProfileStoreTest, ReadNamesAnUnknownId) {
  EXPECT_THAT(store_.Read("p123"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"p123\"")));
}

TEST_F(ProfileStoreTest, PutRefusesAProfileWithoutDocuments) {
  EXPECT_THAT(store_.Put(AnyKey(), *Profile::Empty(1, 1, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"documents\"")));
  EXPECT_THAT(Objects(), IsEmpty());
}

}  // namespace
}  // namespace secateur
