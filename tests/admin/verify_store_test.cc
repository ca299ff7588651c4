#include "server/admin/verify_store.h"

#include <gmock/gmock.h>

#include <sstream>

#include "server/admin/inventory.h"
#include "server/admin/report.h"
#include "server/storage/memory_store.h"
#include "tests/admin/store_fixture.h"
#include "tests/support/fake_clock.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> KeysOf(const std::vector<VerifyReport::Finding>& findings) {
  std::vector<std::string> keys;
  for (const auto& finding : findings) keys.push_back(finding.key);
  return keys;
}

class VerifyStoreTest : public AdminTest {
 protected:
  VerifyReport Verify() {
    const auto report = VerifyStore(*root_);
    EXPECT_OK(report);
    return report.value_or(VerifyReport{});
  }
  void ExpectNamed(const std::string& key, const std::string& bytes, const std::string& how) {
    const std::string before = Bytes(key);
    dir_.Write(key, bytes);
    const VerifyReport report = Verify();
    EXPECT_THAT(KeysOf(report.damaged), ElementsAre(key)) << how;
    EXPECT_THAT(report.orphans, IsEmpty()) << how;
    dir_.Write(key, before);
  }
};

TEST_F(VerifyStoreTest, AStoreAsWrittenIsCleanAndEveryKindIsKnown) {
  const VerifyReport report = Verify();
  EXPECT_TRUE(report.clean());
  EXPECT_THAT(report.unknown, IsEmpty());
  EXPECT_THAT(report.orphans, IsEmpty());
  EXPECT_EQ(report.kinds.size(), 9u);
  EXPECT_EQ(report.kinds.at("expert file").objects, 2);
}

TEST_F(VerifyStoreTest, AFlippedByteIsFoundInEachObjectAndNowhereElse) {
  for (const std::string& key : Keys()) {
    const std::string bytes = Bytes(key);
    for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ 1);
      ExpectNamed(key, flipped, StrCat(key, " at ", at));
    }
  }
  EXPECT_TRUE(Verify().clean());
}

// Meta objects, manifests, events, leases and the like, which say what all others should be.
TEST_F(VerifyStoreTest, EachChangedByteAndEachCutOfARecordIsFound) {
  MemoryStore memory;
  for (const std::string& key : Keys()) ASSERT_OK(memory.Put(key, Bytes(key)));
  const auto expect_named = [&](const std::string& key, const std::string& bytes, size_t at) {
    ASSERT_OK(memory.Delete(key));
    ASSERT_OK(memory.Put(key, bytes));
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyStore(memory));
    EXPECT_THAT(KeysOf(report.damaged), ElementsAre(key)) << bytes.size() << " bytes, at " << at;
  };
  int records = 0;
  for (const std::string& key : Keys()) {
    const ObjectKind kind = ParseObjectName(key).kind;
    if (kind == ObjectKind::kProfile || kind == ObjectKind::kDocuments ||
        kind == ObjectKind::kExpertFile) {
      continue;
    }
    ++records;
    const std::string bytes = Bytes(key);
    for (size_t at = 0; at < bytes.size(); ++at) {
      const int mask = at % 3 == 0 ? 0x01 : at % 3 == 1 ? 0x20 : 0x80;
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ mask);
      expect_named(key, flipped, at);
      expect_named(key, bytes.substr(0, at), at);
    }
    ASSERT_OK(memory.Delete(key));
    ASSERT_OK(memory.Put(key, bytes));
  }
  EXPECT_EQ(records, 7);  // of six kinds
}

TEST_F(VerifyStoreTest, AMissingLastByteIsFoundInEachObjectAndNowhereElse) {
  for (const std::string& key : Keys()) {
    const std::string bytes = Bytes(key);
    ExpectNamed(key, bytes.substr(0, bytes.size() - 1), StrCat(key, " cut"));
  }
}

TEST_F(VerifyStoreTest, AManifestOfAnotherRequestIsFound) {
  const std::string key = StrCat("tenants/default/", attempt_, "secateur.json");
  ASSERT_OK_AND_ASSIGN(v1::Manifest manifest, ParseManifest(Bytes(key)));
  manifest.mutable_request()->set_base_digest(Sha256Of("another").Hex());
  ASSERT_OK_AND_ASSIGN(const std::string text, ManifestText(manifest));
  ExpectNamed(key, text, "request");
}

TEST_F(VerifyStoreTest, AnObjectThatIsNamedAndNotThereIsDamage) {
  const std::string key = StrCat("tenants/default/", attempt_, "config.json");
  ASSERT_OK(root_->Delete(key));
  EXPECT_THAT(KeysOf(Verify().damaged), ElementsAre(key));
}

TEST_F(VerifyStoreTest, UnknownObjectsAndOrphansAreToldAndAreNoDamage) {
  ASSERT_OK(tenant_->Put("notes.txt", "hello"));
  ASSERT_OK(tenant_->Put("uploads/abc.jsonl", "x"));
  const std::string attempt = StrCat("experts/e", std::string(40, 'a'), "/0000000000000000/");
  ASSERT_OK(tenant_->Put(attempt + "config.json", "{}"));
  const VerifyReport report = Verify();
  EXPECT_TRUE(report.clean());
  EXPECT_THAT(KeysOf(report.unknown), ElementsAre("tenants/default/notes.txt"));
  EXPECT_THAT(KeysOf(report.orphans),
              ElementsAre(StrCat("tenants/default/", attempt, "config.json"),
                          "tenants/default/uploads/abc.jsonl"));
  std::ostringstream out;
  Print(report, /*json=*/false, out);
  EXPECT_THAT(out.str(), HasSubstr("clean; orphans, gc would remove: 2"));
}

TEST_F(VerifyStoreTest, AStoreInMemoryIsCheckedAsAFolderIs) {
  FakeClock clock;
  MemoryStore memory(clock);
  for (const std::string& key : Keys()) ASSERT_OK(memory.Put(key, Bytes(key)));
  ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyStore(memory));
  EXPECT_TRUE(report.clean());
  std::ostringstream out;
  Print(report, /*json=*/true, out);
  EXPECT_EQ(nlohmann::json::parse(out.str())["clean"], true);
}

}  // namespace
}  // namespace secateur
