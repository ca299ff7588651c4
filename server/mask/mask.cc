#include "server/mask/mask.h"

#include <bit>

namespace secateur {

Digest Mask::digest() const {
  static_assert(std::endian::native == std::endian::little, "channels are hashed as they lie");
  Sha256 hash;
  hash.UpdateField(uint64_t{kept.size()});
  for (const std::vector<int32_t>& channels : kept) {
    hash.UpdateField(std::string_view(reinterpret_cast<const char*>(channels.data()),
                                      channels.size() * sizeof(int32_t)));
  }
  return hash.Finish();
}

}  // namespace secateur
