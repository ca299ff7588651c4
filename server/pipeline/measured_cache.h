// Measured texts by the digest of what they were measured from, the least recently used dropped
// past a limit of bytes on disk: the second size of a selection does not measure again.
// Thread-safe; measured texts are immutable and live as long as somebody holds them.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "server/base/mutex.h"
#include "server/compensate/measured_text.h"

namespace secateur {

class MeasuredCache {
 public:
  explicit MeasuredCache(int64_t max_disk_bytes) : max_disk_bytes_(max_disk_bytes) {}

  std::shared_ptr<const MeasuredText> Find(const std::string& key);
  // Keeps `measured` if it fits at all.
  void Insert(const std::string& key, std::shared_ptr<const MeasuredText> measured);
  int64_t disk_bytes() const;

 private:
  const int64_t max_disk_bytes_;
  mutable Mutex mutex_;
  // Few and large: looked through one by one. Most recently used first.
  std::list<std::pair<std::string, std::shared_ptr<const MeasuredText>>> entries_
      ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace secateur
