// The BlobWriter of a bucket: hashes, cuts into parts, sends them in batches while the next are
// filled, publishes. See arrow_store.h. Private to object storage.
#pragma once

#include <memory>
#include <string>

#include "server/object_storage/bucket.h"
#include "server/storage/blob_store.h"

namespace secateur {

std::unique_ptr<BlobWriter> MakeObjectWriter(std::shared_ptr<Bucket> bucket, std::string key);

}  // namespace secateur
