// AIP-158 pages of lists that are sorted by a unique key.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "server/base/errors.h"

namespace secateur {

inline constexpr int32_t kDefaultPageSize = 50;
inline constexpr int32_t kMaxPageSize = 1000;

template <class Item>
struct Page {
  std::vector<Item> items;
  std::string next_page_token;  // empty on the last page
};

// `key(item)` is a string, ascending over `items`. The token holds the last key of a page, so that
// what is made or deleted between two calls neither repeats nor hides anything else.
template <class Item, class Key>
absl::StatusOr<Page<Item>> Paginate(std::vector<Item> items, int32_t page_size,
                                    const std::string& page_token, const Key& key) {
  if (page_size < 0) {
    return WithField(absl::InvalidArgumentError("page_size must not be negative"), "page_size");
  }
  std::string after;
  if (!page_token.empty() &&
      (!absl::WebSafeBase64Unescape(page_token, &after) || !after.starts_with("1:"))) {
    return WithField(absl::InvalidArgumentError(
                         "page_token is not one that this server gave: start again without"),
                     "page_token");
  }
  const auto begin = std::partition_point(items.begin(), items.end(), [&](const Item& item) {
    return !after.empty() && key(item) <= after.substr(2);
  });
  const int64_t size = page_size == 0 ? kDefaultPageSize : std::min(page_size, kMaxPageSize);
  const auto end = begin + std::min<int64_t>(size, items.end() - begin);
  Page<Item> page{.items = {begin, end}, .next_page_token = {}};
  if (end != items.end()) {
    absl::WebSafeBase64Escape("1:" + key(page.items.back()), &page.next_page_token);
  }
  return page;
}

}  // namespace secateur
