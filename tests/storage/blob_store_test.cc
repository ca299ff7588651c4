// All stores of this program against the one suite.
#include "tests/conformance/blob_store_suite.h"

#include "server/metrics/metrics.h"
#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"
#include "server/storage/metered_store.h"

namespace secateur {
namespace {

BlobStoreCase Memory() {
  return {"Memory", [](const std::string&) { return std::make_unique<MemoryStore>(); }};
}

BlobStoreCase Local() {
  return {"Local", [](const std::string& folder) -> std::unique_ptr<BlobStore> {
            return LocalStore::Open(folder + "/store").value();
          }};
}

BlobStoreCase Metered() {
  return {"Metered", [](const std::string&) {
            static Metrics metrics("test");
            return std::make_unique<MeteredStore>(std::make_unique<MemoryStore>(), metrics);
          }};
}

INSTANTIATE_TEST_SUITE_P(Stores, BlobStoreSuite, testing::Values(Memory(), Local(), Metered()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace secateur
