// Follows the pages of a list RPC to the end.
#pragma once

#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace secateur {

// `fetch` answers one request with StatusOr of the list response; `items` gives the repeated field
// of a response. Small pages keep a response under gRPC's 4 MiB limit whatever the items hold.
// Errors: those of `fetch`, and INTERNAL when a page names itself as the next one.
template <class Item, class Request, class Fetch, class Items>
absl::StatusOr<std::vector<Item>> AllPages(Request request, const Fetch& fetch,
                                           const Items& items) {
  std::vector<Item> all;
  request.set_page_size(200);
  for (;;) {
    auto page = fetch(request);
    if (!page.ok()) return page.status();
    auto* found = items(*page);
    all.insert(all.end(), std::make_move_iterator(found->begin()),
               std::make_move_iterator(found->end()));
    if (page->next_page_token().empty()) return all;
    if (page->next_page_token() == request.page_token()) {
      return absl::InternalError(absl::StrCat("the server names page \"", request.page_token(),
                                              "\" as the one after itself"));
    }
    request.set_page_token(page->next_page_token());
  }
}

}  // namespace secateur
