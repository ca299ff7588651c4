#include "server/pipeline/measured_cache.h"

#include <algorithm>

namespace secateur {

std::shared_ptr<const MeasuredText> MeasuredCache::Find(const std::string& key) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return entry.first == key; });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front().second;
}

void MeasuredCache::Insert(const std::string& key, std::shared_ptr<const MeasuredText> measured) {
  const int64_t bytes = measured->disk_bytes();
  MutexLock lock(mutex_);
  const bool known = std::any_of(entries_.begin(), entries_.end(),
                                 [&](const auto& entry) { return entry.first == key; });
  if (known || bytes > max_disk_bytes_) return;
  entries_.emplace_front(key, std::move(measured));
  bytes_ += bytes;
  while (bytes_ > max_disk_bytes_) {
    bytes_ -= entries_.back().second->disk_bytes();
    entries_.pop_back();
  }
}

int64_t MeasuredCache::disk_bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace secateur
