#include "server/evaluate/bits_per_byte.h"

#include <numbers>

namespace secateur {

double BitsPerByte::value() const {
  return bytes == 0 ? 0 : nats / std::numbers::ln2 / static_cast<double>(bytes);
}

}  // namespace secateur
