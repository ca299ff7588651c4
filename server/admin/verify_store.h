// Checks every object of a store, and changes nothing.
//
// An object that appears or goes while this runs may be missed. Each piece that is read is a few
// MiB; findings and the list of objects are held in memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct VerifyReport {
  struct Count {
    int64_t objects = 0, bytes = 0, damaged = 0, orphans = 0;
  };
  struct Finding {
    std::string key, what;
  };
  std::map<std::string_view, Count> kinds;
  std::vector<Finding>
      damaged;  // bytes that are not what was written, and objects that are missing
  std::vector<Finding> unknown;  // objects of no kind that a server writes
  std::vector<Finding> orphans;  // a collection would remove them when they are old enough

  bool clean() const { return damaged.empty(); }
};

// `store` is seen from its root. Damage is in the report; errors are the store's.
absl::StatusOr<VerifyReport> VerifyStore(BlobStore& store);

}  // namespace secateur
