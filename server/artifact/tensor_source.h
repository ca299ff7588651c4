// Where the bytes of an expert's tensors come from: cut from the base, or (compensation,
// vocabulary) replaced by new ones.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/format/tensor_writer.h"

namespace secateur {

// Thread-safe: shards are written side by side.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // In the order in which they are written.
  virtual const std::vector<TensorSpec>& specs() const = 0;
  // All bytes of specs()[index].
  virtual absl::Status Stream(size_t index, const ByteSink& sink) const = 0;
};

}  // namespace secateur
