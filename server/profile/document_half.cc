#include "server/profile/document_half.h"

#include <bit>

#include "server/base/digest.h"

namespace secateur {

static_assert(std::endian::native == std::endian::little, "tokens are hashed as they are");

bool IsInHalf(std::span<const int32_t> tokens) {
  const Digest digest =
      Sha256Of({reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
  return (digest.bytes[0] & 1) != 0;
}

}  // namespace secateur
