// Removes what nothing refers to from a store, beside servers that use it.
//
// Goes: experts that have ended, attempts of experts without a manifest, documents that no meta
// object names, profiles of corpora that are gone, temporary files, and leases of processes that
// ended, each only when all of it is older than the grace period by the store's clock, or ended
// before it. Stays: what a meta object or a manifest that cannot be read may name, attempts begun
// while an operation runs that is not done, profiles that cannot be read, and objects of unknown
// kinds. What refers to an object is looked at again just before it goes. Between that look
// and the deletion the grace period is what protects: it must be longer than an upload or the
// making of an expert takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct GarbageOptions {
  absl::Duration grace = absl::Hours(24);
  bool dry_run = false;  // deletes and writes nothing; "now" is then `clock`'s
};

struct GarbageReport {
  struct Removed {
    std::string key, what;
    int64_t bytes = 0;
  };
  bool dry_run = false;
  std::vector<Removed> removed;  // would be, in a dry run
  int64_t younger = 0;           // orphans within the grace period
  int64_t kept = 0;  // old ones that were referenced again, or may be of live operations

  int64_t bytes() const;
};

// `store` is seen from its root. INVALID_ARGUMENT for a negative grace period; else errors are the
// store's: what was removed by then is gone, and another run does the rest.
absl::StatusOr<GarbageReport> CollectGarbage(BlobStore& store, const Clock& clock,
                                             const GarbageOptions& options);

}  // namespace secateur
