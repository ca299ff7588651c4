#include "server/pipeline/view_cache.h"

#include <utility>

namespace secateur {

std::shared_ptr<const RelevanceView> ViewCache::Find(const std::string& key) {
  MutexLock lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->view;
}

std::shared_ptr<const RelevanceView> ViewCache::Insert(const std::string& key, RelevanceView view) {
  auto shared = std::make_shared<const RelevanceView>(std::move(view));
  MutexLock lock(mutex_);
  if (shared->bytes() > max_bytes_ || by_key_.contains(key)) return shared;
  entries_.push_front({key, shared});
  by_key_[key] = entries_.begin();
  bytes_ += shared->bytes();
  while (bytes_ > max_bytes_) {
    bytes_ -= entries_.back().view->bytes();
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return shared;
}

int64_t ViewCache::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace secateur
