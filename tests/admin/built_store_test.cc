// The check and the collection on what the pipeline writes for a tiny model.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "server/admin/collect_garbage.h"
#include "server/admin/object_check.h"
#include "server/admin/verify_store.h"
#include "server/artifact/manifest.h"
#include "server/model/compute_threads.h"
#include "server/pipeline/build_expert.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class BuiltStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    SetComputeThreads(1);  // tests share the machine
    TempDir folder;
    ASSERT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder.path()));
    ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const auto model, ResidentModel::Load("tiny", opened, Device{}, context));
    stores_.Add({{"language", "en"}}, 4, "english");
    stores_.Add({{"domain", "law"}}, 3, "law");
    const auto request = RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 1}});
    const BuildOptions options{.lifetime = {.ttl = absl::Hours(5000)}};
    ASSERT_OK(BuildExpert(*model, request, options, stores_.all(), context));
    for (const std::string& key : stores_.Keys("")) {
      ASSERT_OK_AND_ASSIGN(const std::string bytes, stores_.blobs.ReadAll(key, 1 << 28));
      ASSERT_OK(root_.Put(StrCat("tenants/default/", key), bytes));
    }
  }
  std::vector<std::string> Keys() {
    std::vector<std::string> keys;
    const auto all = root_.List("", "", 10'000);
    EXPECT_OK(all);
    for (const BlobInfo& blob : *all) keys.push_back(blob.key);
    return keys;
  }
  void Replace(const std::string& key, const std::string& bytes) {
    ASSERT_OK(root_.Delete(key));
    ASSERT_OK(root_.Put(key, bytes));
  }
  std::vector<std::string> Damaged() {
    const auto report = VerifyStore(root_);
    EXPECT_OK(report);
    std::vector<std::string> keys;
    for (const auto& finding : report->damaged) keys.push_back(finding.key);
    EXPECT_THAT(report->unknown, IsEmpty());
    EXPECT_THAT(report->orphans, IsEmpty());
    return keys;
  }

  TestStores stores_;
  FakeClock clock_;
  MemoryStore root_{clock_};
};

TEST_F(BuiltStoreTest, WhatTheServerBuildsIsCleanAndNothingOfItIsCollected) {
  const std::vector<std::string> keys = Keys();
  EXPECT_GE(keys.size(), 2u * 2 + 2 + 4);  // corpora, profiles, the expert's files
  EXPECT_THAT(Damaged(), IsEmpty());
  clock_.Advance(absl::Hours(1000));
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(root_, clock_, {}));
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_EQ(Keys(), keys);
}

TEST_F(BuiltStoreTest, AnExpertThatHasEndedIsCollectedAndNothingElseIs) {
  std::vector<std::string> expert, rest;
  for (const std::string& key : Keys()) {
    (key.find("/experts/") != std::string::npos ? expert : rest).push_back(key);
  }
  clock_.Advance(absl::Hours(5000 + 23));
  ASSERT_OK_AND_ASSIGN(const GarbageReport early, CollectGarbage(root_, clock_, {}));
  EXPECT_THAT(early.removed, IsEmpty());
  EXPECT_EQ(early.younger, std::ssize(expert));
  clock_.Advance(absl::Hours(1));
  ASSERT_OK_AND_ASSIGN(const GarbageReport report, CollectGarbage(root_, clock_, {}));
  EXPECT_EQ(report.removed.size(), expert.size());
  EXPECT_EQ(Keys(), rest);
}

TEST_F(BuiltStoreTest, AFlippedByteAndAMissingOneAreFoundInEachObjectAndNowhereElse) {
  for (const std::string& key : Keys()) {
    ASSERT_OK_AND_ASSIGN(const std::string bytes, root_.ReadAll(key, 1 << 28));
    std::string flipped = bytes;
    flipped[0] = static_cast<char>(flipped[0] ^ 1);
    Replace(key, flipped);
    EXPECT_THAT(Damaged(), ElementsAre(key)) << "flipped";
    Replace(key, bytes.substr(0, bytes.size() - 1));
    EXPECT_THAT(Damaged(), ElementsAre(key)) << "cut";
    Replace(key, bytes);
  }
  EXPECT_THAT(Damaged(), IsEmpty());
}

// By the check, and by a server that starts on the store.
TEST_F(BuiltStoreTest, EachChangedByteAndEachCutOfAManifestIsFoundAndNeverUsed) {
  const std::string prefix = stores_.experts.List()[0].prefix;
  const std::string text = stores_.experts.List()[0].manifest_json;
  const std::string key = StrCat("tenants/default/", prefix, "secateur.json");
  ASSERT_OK_AND_ASSIGN(const Inventory inventory, TakeInventory(root_));
  const auto expect_refused = [&](const std::string& changed, size_t at) {
    Replace(key, changed);
    ASSERT_OK_AND_ASSIGN(const BlobInfo object, root_.Head(key));
    EXPECT_FALSE(CheckObject(root_, inventory, object).ok()) << at;
    EXPECT_FALSE(ParseManifest(changed).ok()) << at;
    EXPECT_FALSE(ParseManifestFiles(changed).ok()) << at;
  };
  for (size_t at = 0; at < text.size(); ++at) {
    std::string flipped = text;
    flipped[at] = static_cast<char>(flipped[at] ^ (at % 3 == 0 ? 0x01 : at % 3 == 1 ? 0x20 : 0x80));
    expect_refused(flipped, at);
    expect_refused(text.substr(0, at), at);
  }
  Replace(key, text);
  EXPECT_THAT(Damaged(), IsEmpty());
}

}  // namespace
}  // namespace secateur
