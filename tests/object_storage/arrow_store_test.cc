// Buckets of real servers and emulators against the suite of all stores.
#include "server/object_storage/arrow_store.h"

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

}  // namespace
}  // namespace secateur
