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

class MissingBucket : public testing::TestWithParam<ObjectServer& (*)()> {};

TEST_P(MissingBucket, IsNamed) {
  std::string uri = GetParam()().Uri(NewFolder());
  uri.replace(uri.find("bucket/"), 7, "no-such-bucket/");
  EXPECT_THAT(ArrowStore::Open(uri, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::AllOf(testing::HasSubstr("no-such-bucket"),
                                      testing::HasSubstr("make it"))));
}

INSTANTIATE_TEST_SUITE_P(Stores, MissingBucket, testing::Values(AnyS3, AnyGcs, AnyAzure));

TEST(ArrowErrors, OfAMissingObjectAreNotToldByItsName) {
  for (const std::string path : {"team-quota/experts/e1", "bucket/expired/access_denied"}) {
    const arrow::Status missing = arrow::internal::StatusFromErrno(
        ENOENT, arrow::StatusCode::IOError, "Path does not exist '", path, "'");
    EXPECT_THAT(FromArrow(missing, "read"), StatusIs(absl::StatusCode::kNotFound)) << path;
  }
}

}  // namespace
}  // namespace secateur
