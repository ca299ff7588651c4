#include "server/mask/mask.h"

#include <bit>

namespace secateur {

Digest Mask::digest() const {
  static_assert(std::endian::native == std::endian::little, "numbers are hashed as they lie");
  Sha256 hash;
  const auto update = [&hash](const std::vector<int32_t>& numbers) {
    hash.UpdateField(std::string_view(reinterpret_cast<const char*>(numbers.data()),
                                      numbers.size() * sizeof(int32_t)));
  };
  hash.UpdateField(uint64_t{kept.size()});
  for (const std::vector<int32_t>& channels : kept) update(channels);
  if (!vocabulary.empty()) update(vocabulary);
  if (!attention.empty()) hash.UpdateField("attention");
  for (const KeptAttention& layer : attention) {
    for (const auto* rows : {&layer.query, &layer.key, &layer.value, &layer.output}) update(*rows);
  }
  return hash.Finish();
}

}  // namespace secateur
