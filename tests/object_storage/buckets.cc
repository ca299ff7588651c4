#include "tests/object_storage/buckets.h"

#include <gtest/gtest.h>

#include <optional>

namespace secateur {
namespace {

// Servers end before main() does, and Arrow after all stores and before its own statics.
struct Servers final : testing::Environment {
  void TearDown() override {
    EXPECT_TRUE(FinalizeObjectStorage());
    s3.reset();
    gcs.reset();
    azure.reset();
  }
  std::optional<S3Server> s3;
  std::optional<GcsServer> gcs;
  std::optional<AzureServer> azure;
};

Servers& All() {
  static Servers* const servers =
      static_cast<Servers*>(testing::AddGlobalTestEnvironment(new Servers));
  return *servers;
}

// Before main() runs the tests: environments that are added later are not torn down.
[[maybe_unused]] const Servers& registered = All();

template <class Server>
Server& Started(std::optional<Server>& server) {
  if (!server) server.emplace();
  return *server;
}

}  // namespace

S3Server& S3() { return Started(All().s3); }
GcsServer& Gcs() { return Started(All().gcs); }
AzureServer& Azure() { return Started(All().azure); }

std::string NewFolder() {
  static int count = 0;
  return "f" + std::to_string(++count);
}

std::unique_ptr<ArrowStore> OpenBucket(const ObjectServer& server) {
  return ArrowStore::Open(server.Uri(NewFolder()), {}).value();
}

}  // namespace secateur
