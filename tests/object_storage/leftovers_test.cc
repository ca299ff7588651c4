// What a killed process leaves of its uploads: no name leads to it, and an Open removes it.
#include <string>
#include <vector>

#include "server/object_storage/bucket.h"
#include "tests/object_storage/buckets.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// The objects of a folder, whatever their names.
std::vector<std::string> Objects(Bucket& bucket) {
  std::vector<std::string> paths;
  const auto infos = bucket.ListFolder(bucket.root());
  EXPECT_OK(infos);
  if (!infos.ok()) return paths;
  for (const arrow::fs::FileInfo& info : *infos) {
    if (info.type() == arrow::fs::FileType::File) paths.push_back(info.path());
  }
  return paths;
}

class Leftovers : public testing::TestWithParam<ObjectServer& (*)()> {};

TEST_P(Leftovers, HaveNoNameAndGoWithTheirAge) {
  const std::string uri = GetParam()().Uri(NewFolder());
  Bucket bucket(OpenObjectFilesystem(uri).value(), {});
  // As a process leaves it that dies before it copies.
  auto written = bucket.arrow()->OpenOutputStream(bucket.Path(".tmp/0123abcd/object")).ValueOrDie();
  ASSERT_TRUE(written->Write("bytes").ok());
  ASSERT_TRUE(written->Close().ok());
  ASSERT_THAT(Objects(bucket), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(const auto store, ArrowStore::Open(uri, {}));
  EXPECT_THAT(store->List("", "", 100), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(store->Read(".tmp/0123abcd/object", 0, 1),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Objects(bucket), SizeIs(1));  // of a writer at work, perhaps
  ASSERT_OK(store->Put("key", "bytes"));
  ASSERT_OK(store->Check());

  bucket.RemoveLeftovers(absl::Now() - absl::Hours(1));
  EXPECT_THAT(Objects(bucket), SizeIs(3));
  bucket.RemoveLeftovers(absl::Now() + absl::Hours(1));
  EXPECT_THAT(Objects(bucket), SizeIs(2));
  EXPECT_THAT(store->ReadAll("key", 10), IsOkAndHolds("bytes"));
}

INSTANTIATE_TEST_SUITE_P(CopyStores, Leftovers, testing::Values(AnyGcs, AnyAzure));

}  // namespace
}  // namespace secateur
