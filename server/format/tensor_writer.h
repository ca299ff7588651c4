// Declare all tensors, then stream each once: the interface of every tensor container we write.
//
// Legal order: Begin(all specs) once; for each spec, in that order, Write() until its bytes are
// complete (several calls may carry one tensor; a call never spans two); Finish() once.
// FAILED_PRECONDITION when the order is broken, naming the tensor. One thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/format/dtype.h"

namespace secateur {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

// 0 for a shape with a zero in it, one item for an empty shape; -1 for a negative dimension or when
// the size of the leading dimensions does not fit, which no Begin() accepts.
int64_t ByteSize(const TensorSpec& spec);

// Takes the next bytes of the output.
using ByteSink = std::function<absl::Status(std::string_view)>;

class TensorWriter {
 public:
  virtual ~TensorWriter() = default;
  virtual absl::Status Begin(const std::vector<TensorSpec>& specs,
                             const std::map<std::string, std::string>& metadata) = 0;
  virtual absl::Status Write(std::string_view data) = 0;
  virtual absl::Status Finish() = 0;
};

}  // namespace secateur
