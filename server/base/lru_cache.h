// Immutable values by key; those that were used least recently are dropped past a limit of what all
// cost together. Thread-safe; a value lives as long as somebody holds it.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "server/base/mutex.h"

namespace secateur {

template <typename Value>
class LruCache {
 public:
  // In the unit of the costs that Insert() is told: bytes, or entries of cost 1.
  explicit LruCache(int64_t max_cost) : max_cost_(max_cost) {}

  // Null when it is not kept.
  std::shared_ptr<const Value> Find(const std::string& key) {
    MutexLock lock(mutex_);
    return Use(key);
  }

  // What is kept under `key`: what was there before, else `value`. One that costs more than the
  // limit is not kept; it comes back all the same.
  std::shared_ptr<const Value> Insert(const std::string& key, std::shared_ptr<const Value> value,
                                      int64_t cost) {
    MutexLock lock(mutex_);
    if (auto known = Use(key)) return known;
    if (cost > max_cost_) return value;
    entries_.push_front({key, value, cost});
    by_key_[key] = entries_.begin();
    cost_ += cost;
    while (cost_ > max_cost_) {
      cost_ -= entries_.back().cost;
      by_key_.erase(entries_.back().key);
      entries_.pop_back();
    }
    return value;
  }

  int64_t cost() const {
    MutexLock lock(mutex_);
    return cost_;
  }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Value> value;
    int64_t cost = 0;
  };

  std::shared_ptr<const Value> Use(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  const int64_t max_cost_;
  mutable Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  std::map<std::string, typename std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  int64_t cost_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace secateur
