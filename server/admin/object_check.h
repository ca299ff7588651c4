// Whether one object holds what it should: by its own digest, by that in its name, or by what
// another object says of it. Reads pieces of a few MiB.
#pragma once

#include "absl/status/status.h"
#include "server/admin/inventory.h"
#include "server/storage/blob_store.h"

namespace secateur {

// OK for a good one and for kinds that nothing is known of; DATA_LOSS with the reason for a damaged
// one; NOT_FOUND when it is gone; else as the store says.
absl::Status CheckObject(BlobStore& store, const Inventory& inventory, const BlobInfo& object);

}  // namespace secateur
