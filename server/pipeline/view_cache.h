// Relevance views by the digest of what they were merged from, least recently used ones dropped
// past a limit of bytes. Thread-safe; views are immutable and live as long as somebody holds them.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "server/base/mutex.h"
#include "server/profile/dimension.h"

namespace secateur {

class ViewCache {
 public:
  explicit ViewCache(int64_t max_bytes) : max_bytes_(max_bytes) {}

  std::shared_ptr<const RelevanceView> Find(const std::string& key);
  // Keeps `view` if it fits at all; returns it shared.
  std::shared_ptr<const RelevanceView> Insert(const std::string& key, RelevanceView view);
  int64_t bytes() const;

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const RelevanceView> view;
  };
  const int64_t max_bytes_;
  mutable Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  std::map<std::string, std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace secateur
