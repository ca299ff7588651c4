// Element types of tensors in files, by safetensors' names.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace secateur {

enum class DType { kBool, kU8, kI8, kU16, kI16, kF16, kBF16, kU32, kI32, kF32, kU64, kI64, kF64 };

int64_t ItemSize(DType dtype);            // bytes
std::string_view DTypeName(DType dtype);  // "BF16" ...
// UNIMPLEMENTED for a type that is not in the list, naming it.
absl::StatusOr<DType> ParseDType(std::string_view name);

}  // namespace secateur
