// The object servers of this program's tests, started when one is first asked for, and a folder of
// its own in the bucket for each store.
#pragma once

#include <memory>
#include <string>

#include "server/object_storage/arrow_store.h"
#include "tests/support/object_servers.h"

namespace secateur {

S3Server& S3();
GcsServer& Gcs();
AzureServer& Azure();
inline ObjectServer& AnyS3() { return S3(); }
inline ObjectServer& AnyGcs() { return Gcs(); }
inline ObjectServer& AnyAzure() { return Azure(); }

std::string NewFolder();  // "f1", "f2", ...
std::unique_ptr<ArrowStore> OpenBucket(const ObjectServer& server);

}  // namespace secateur
