// The check and the collection on what the pipeline writes for a tiny model.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "server/admin/collect_garbage.h"
#include "server/admin/verify_store.h"
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
    ASSERT_OK(BuildExpert(*model, request, {}, stores_.all(), context));
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

}  // namespace
}  // namespace secateur
