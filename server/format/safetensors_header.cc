#include "server/format/safetensors_header.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/json_walker.h"

namespace secateur {
namespace {

constexpr size_t kMaxDepth = 3;  // the header, a tensor, its shape
// Far beyond any model; keeps a shape of millions of ones from filling memory.
constexpr size_t kMaxDimensions = 64;

class HeaderWalker final : public JsonWalker {
 public:
  explicit HeaderWalker(SafetensorsHeader& header) : JsonWalker(kMaxDepth), header_(header) {}

 private:
  // The entry that is being read; a key that has not come yet is empty.
  struct Pending {
    std::optional<DType> dtype;
    std::optional<std::vector<int64_t>> shape;
    std::optional<std::vector<uint64_t>> offsets;
  };

  absl::Status OnOpen(bool is_object) override;
  absl::Status OnClose() override;
  absl::Status OnScalar(JsonScalar value) override;

  absl::Status OnMetadata(JsonScalar value);
  absl::Status OnField(const JsonScalar& value);
  absl::Status OnElement(const JsonScalar& value);

  bool InMetadata() const { return KeyAt(0) == kSafetensorsMetadataKey; }
  // INVALID_ARGUMENT about the tensor, or the metadata, that is being read.
  absl::Status Refuse(std::string_view what) const {
    const std::string_view kind = InMetadata() ? "" : "tensor ";
    return absl::InvalidArgumentError(StrCat(kind, Quoted(KeyAt(0)), ": ", what));
  }

  SafetensorsHeader& header_;
  Pending pending_;
};

absl::Status HeaderWalker::OnOpen(bool is_object) {
  if (depth() == 1) {
    if (is_object) return absl::OkStatus();
    return absl::InvalidArgumentError("the header is an array, not a JSON object");
  }
  if (depth() == 2) {
    if (!is_object) return Refuse("an array, not a JSON object");
    pending_.dtype.reset();
    pending_.shape.reset();
    pending_.offsets.reset();
    return absl::OkStatus();
  }
  const std::string& field = KeyAt(1);
  if (InMetadata()) return Refuse(StrCat(Quoted(field), " is not a string"));
  if (field == "shape" && !is_object) {
    pending_.shape.emplace();
  } else if (field == "data_offsets" && !is_object) {
    pending_.offsets.emplace();
  } else {
    return Refuse(StrCat("unexpected ", is_object ? "object " : "array ", Quoted(field)));
  }
  return absl::OkStatus();
}

absl::Status HeaderWalker::OnClose() {
  if (depth() != 2 || InMetadata()) return absl::OkStatus();
  if (!pending_.dtype) return Refuse("\"dtype\" is missing");
  if (!pending_.shape) return Refuse("\"shape\" is missing");
  if (!pending_.offsets) return Refuse("\"data_offsets\" is missing");
  const std::vector<uint64_t>& offsets = *pending_.offsets;
  if (offsets.size() != 2) {
    return Refuse(StrCat("\"data_offsets\" has ", offsets.size(), " numbers instead of 2"));
  }
  header_.entries.push_back(
      {.spec = {.name = KeyAt(0), .dtype = *pending_.dtype, .shape = std::move(*pending_.shape)},
       .begin = offsets[0],
       .end = offsets[1]});
  return absl::OkStatus();
}

absl::Status HeaderWalker::OnScalar(JsonScalar value) {
  switch (depth()) {
    case 0:
      return absl::InvalidArgumentError(
          StrCat("the header is ", Describe(value), ", not a JSON object"));
    case 1:
      return Refuse(StrCat(Describe(value), ", not a JSON object"));
    case 2:
      return InMetadata() ? OnMetadata(std::move(value)) : OnField(value);
    default:
      return OnElement(value);
  }
}

absl::Status HeaderWalker::OnMetadata(JsonScalar value) {
  auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) {
    return Refuse(StrCat(Quoted(KeyAt(1)), " is ", Describe(value), ", not a string"));
  }
  header_.metadata[KeyAt(1)] = std::move(*text);
  return absl::OkStatus();
}

absl::Status HeaderWalker::OnField(const JsonScalar& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (KeyAt(1) != "dtype" || text == nullptr) {
    return Refuse(StrCat("unexpected ", Quoted(KeyAt(1)), ": ", Describe(value)));
  }
  absl::StatusOr<DType> dtype = ParseDType(*text);
  if (!dtype.ok()) return Annotate(dtype.status(), StrCat("tensor ", Quoted(KeyAt(0))));
  pending_.dtype = *dtype;
  return absl::OkStatus();
}

absl::Status HeaderWalker::OnElement(const JsonScalar& value) {
  constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();
  const auto* number = std::get_if<uint64_t>(&value);
  if (number == nullptr || *number > kLargest) {
    return Refuse(StrCat(Quoted(KeyAt(1)), " holds ", Describe(value),
                         "; it takes integers from 0 to ", kLargest));
  }
  const bool is_shape = KeyAt(1) == "shape";
  const size_t limit = is_shape ? kMaxDimensions : 2;
  const size_t count = is_shape ? pending_.shape->size() : pending_.offsets->size();
  if (count == limit) {
    return Refuse(StrCat(Quoted(KeyAt(1)), " has more than ", limit, " numbers"));
  }
  if (is_shape) {
    pending_.shape->push_back(static_cast<int64_t>(*number));
  } else {
    pending_.offsets->push_back(*number);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json) {
  SafetensorsHeader header;
  RETURN_IF_ERROR(HeaderWalker(header).Walk(json));
  return header;
}

}  // namespace secateur
