// What stores say, in the same words whatever lies behind them. `uri` is the store's.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/strings.h"

namespace secateur {

inline absl::Status NoSuchObject(std::string_view uri, std::string_view key) {
  return absl::NotFoundError(StrCat("there is no object ", key, " in ", uri));
}

inline absl::Status KeyTaken(std::string_view uri, std::string_view key) {
  return absl::AlreadyExistsError(StrCat("the object ", key, " exists already in ", uri));
}

inline absl::Status KeyAboveOrBelowTaken(std::string_view uri, std::string_view key) {
  return absl::FailedPreconditionError(
      StrCat("cannot make the object ", key, " in ", uri,
             ": something is stored under a part of this key or below it; use another key"));
}

inline absl::Status BadLimit(std::string_view uri, int64_t limit) {
  return absl::InvalidArgumentError(
      StrCat("cannot list ", uri, ": the limit is ", limit, ", it must not be negative"));
}

// How many of `length` bytes from `offset` an object of `size` bytes has.
inline absl::StatusOr<int64_t> BytesInRange(std::string_view uri, std::string_view key,
                                            int64_t size, int64_t offset, int64_t length) {
  if (offset < 0 || length < 0 || offset > size) {
    return absl::OutOfRangeError(StrCat("cannot read ", length, " bytes from offset ", offset,
                                        " of ", key, " in ", uri, ": it has ", size, " bytes"));
  }
  return std::min(length, size - offset);
}

// "what: reason". No space and files past the system's limit are RESOURCE_EXHAUSTED; a failing or
// stale disk is UNAVAILABLE; otherwise as Abseil has it.
inline absl::Status ErrnoStatus(int error, std::string_view what) {
  absl::Status status = absl::ErrnoToStatus(error, ToAbsl(what));
  switch (error) {
    case EFBIG:
      return absl::ResourceExhaustedError(status.message());
    case EIO:
    case ESTALE:
      return absl::UnavailableError(status.message());
    case ELOOP:
      return absl::FailedPreconditionError(status.message());
    default:
      return status;
  }
}

}  // namespace secateur
