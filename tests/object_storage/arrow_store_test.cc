// Buckets of real servers and emulators against the suite of all stores, and one that is missing.
#include "server/object_storage/arrow_store.h"

#include <arrow/util/io_util.h>

#include <cerrno>

#include "server/object_storage/arrow_errors.h"
#include "tests/conformance/blob_store_suite.h"
#include "tests/object_storage/buckets.h"

namespace secateur {
namespace {

template <ObjectServer& (*Server)()>
BlobStoreCase Bucket(const char* name) {
  return {
      .name = name,
      .make = [](const std::string&) -> std::unique_ptr<BlobStore> { return OpenBucket(Server()); },
      .bucket = true};
}

INSTANTIATE_TEST_SUITE_P(Buckets, BlobStoreSuite,
                         testing::Values(Bucket<AnyS3>("S3"), Bucket<AnyGcs>("Gcs"),
                                         Bucket<AnyAzure>("Azure")),
                         [](const auto& test) { return test.param.name; });

class AnyBucket : public testing::TestWithParam<ObjectServer& (*)()> {};

TEST_P(AnyBucket, ThatIsMissingIsNamed) {
  std::string uri = GetParam()().Uri(NewFolder());
  uri.replace(uri.find("bucket/"), 7, "no-such-bucket/");
  EXPECT_THAT(ArrowStore::Open(uri, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::AllOf(testing::HasSubstr("no-such-bucket"),
                                      testing::HasSubstr("make it"))));
}

// What a store remembers of an object that it has read is not of the one that takes its place.
TEST_P(AnyBucket, ReadsWhatAnotherServerMadeAgain) {
  const std::string uri = GetParam()().Uri(NewFolder());
  ASSERT_OK_AND_ASSIGN(const auto ours, ArrowStore::Open(uri, {}));
  ASSERT_OK_AND_ASSIGN(const auto others, ArrowStore::Open(uri, {}));
  ASSERT_OK(ours->Put("key", "short"));
  EXPECT_THAT(ours->ReadAll("key", 100), IsOkAndHolds("short"));
  ASSERT_OK(others->Delete("key"));
  ASSERT_OK(others->Put("key", "longer than that"));
  EXPECT_THAT(ours->ReadAll("key", 100), IsOkAndHolds("longer than that"));
}

TEST(ArrowErrors, OfAMissingObjectAreNotToldByItsName) {
  for (const std::string path : {"team-quota/experts/e1", "bucket/expired/access_denied"}) {
    const arrow::Status missing = arrow::internal::StatusFromErrno(
        ENOENT, arrow::StatusCode::IOError, "Path does not exist '", path, "'");
    EXPECT_THAT(FromArrow(missing, "read"), StatusIs(absl::StatusCode::kNotFound)) << path;
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, AnyBucket, testing::Values(AnyS3, AnyGcs, AnyAzure));

}  // namespace
}  // namespace secateur
