// How the fake server finds items by name and cuts lists into pages.
#pragma once

#include <google/protobuf/repeated_field.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <string>
#include <vector>

namespace secateur {

// The item called `name`, or NOT_FOUND.
template <class Item>
grpc::Status FindByName(const std::vector<Item>& items, const std::string& name, Item* found) {
  const auto item =
      std::find_if(items.begin(), items.end(), [&](const Item& one) { return one.name() == name; });
  if (item == items.end()) return {grpc::StatusCode::NOT_FOUND, "no " + name};
  *found = *item;
  return grpc::Status::OK;
}

// Adds one page of `items` to the response; the token is the index of the next item.
template <class Item, class Request, class Response>
grpc::Status AddPage(const std::vector<Item>& items, size_t page, const Request& request,
                     google::protobuf::RepeatedPtrField<Item>& out, Response& response) {
  const size_t begin = request.page_token().empty() ? 0 : std::stoul(request.page_token());
  const size_t end = std::min(items.size(), begin + page);
  out.Add(items.begin() + static_cast<std::ptrdiff_t>(begin),
          items.begin() + static_cast<std::ptrdiff_t>(end));
  if (end < items.size()) response.set_next_page_token(std::to_string(end));
  return grpc::Status::OK;
}

}  // namespace secateur
