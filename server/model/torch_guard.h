// Where libtorch's exceptions end. Code that calls libtorch runs inside GuardTorch, which puts it
// in inference mode and turns what it throws into a Status:
//   RESOURCE_EXHAUSTED  memory ran out, on the host or on the device
//   INTERNAL            anything else, with libtorch's message
//
//   absl::StatusOr<at::Tensor> Norm(const at::Tensor& x) {
//     return GuardTorch([&] { return x.norm(); });
//   }
//
// The function may return a value, a StatusOr of one, or a Status. Tensors made inside are
// inference tensors: change them inside a guard only. Guards nest.
#pragma once

#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/strings.h"

namespace secateur {
namespace torch_guard_internal {

template <class T>
struct ResultOf {
  using Type = absl::StatusOr<T>;
};
template <class T>
struct ResultOf<absl::StatusOr<T>> {
  using Type = absl::StatusOr<T>;
};
template <>
struct ResultOf<absl::Status> {
  using Type = absl::Status;
};

inline absl::Status OutOfMemory(std::string_view message) {
  return absl::ResourceExhaustedError(StrCat("memory ran out: ", message));
}

inline absl::Status FromError(const c10::Error& error) {
  const std::string_view message = error.what_without_backtrace();
  // The CPU allocator throws a plain error.
  if (message.find("can't allocate memory") != std::string_view::npos ||
      message.find("not enough memory") != std::string_view::npos) {
    return OutOfMemory(message);
  }
  return absl::InternalError(StrCat("libtorch: ", message));
}

}  // namespace torch_guard_internal

template <class Function>
auto GuardTorch(Function&& function) ->
    typename torch_guard_internal::ResultOf<std::invoke_result_t<Function>>::Type {
  try {
    const c10::InferenceMode inference;
    return std::forward<Function>(function)();
  } catch (const c10::OutOfMemoryError& error) {
    return torch_guard_internal::OutOfMemory(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return torch_guard_internal::FromError(error);
  } catch (const std::bad_alloc&) {
    return torch_guard_internal::OutOfMemory("the host has none left");
  } catch (const std::exception& error) {
    return absl::InternalError(StrCat("libtorch: ", error.what()));
  }
}

}  // namespace secateur
