#include "server/format/dtype.h"

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  int64_t item_size;
};

// In the order of the enum.
constexpr std::array<Entry, 13> kTypes = {{
    {DType::kBool, "BOOL", 1},
    {DType::kU8, "U8", 1},
    {DType::kI8, "I8", 1},
    {DType::kU16, "U16", 2},
    {DType::kI16, "I16", 2},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kU32, "U32", 4},
    {DType::kI32, "I32", 4},
    {DType::kF32, "F32", 4},
    {DType::kU64, "U64", 8},
    {DType::kI64, "I64", 8},
    {DType::kF64, "F64", 8},
}};

constexpr bool InEnumOrder() {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<size_t>(kTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(InEnumOrder());

}  // namespace

int64_t ItemSize(DType dtype) { return kTypes[static_cast<size_t>(dtype)].item_size; }

std::string_view DTypeName(DType dtype) { return kTypes[static_cast<size_t>(dtype)].name; }

absl::StatusOr<DType> ParseDType(std::string_view name) {
  for (const Entry& entry : kTypes) {
    if (entry.name == name) return entry.dtype;
  }
  const auto append_name = [](std::string* out, const Entry& entry) {
    absl::StrAppend(out, ToAbsl(entry.name));
  };
  return absl::UnimplementedError(StrCat("element type ", Quoted(name), " is not one of ",
                                         absl::StrJoin(kTypes, ", ", append_name)));
}

}  // namespace secateur
