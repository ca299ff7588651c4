#include "server/format/tensor_writer.h"

namespace secateur {

int64_t ByteSize(const TensorSpec& spec) {
  int64_t size = ItemSize(spec.dtype);
  for (const int64_t dimension : spec.shape) {
    if (dimension < 0 || __builtin_mul_overflow(size, dimension, &size)) return -1;
  }
  return size;
}

}  // namespace secateur
