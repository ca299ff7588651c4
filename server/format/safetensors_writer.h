// Writes safetensors to a byte sink. The same specs and bytes give the same file: the header lists
// tensors in the order declared, padded with spaces to 8 bytes, offsets without holes.
//
// Begin() is INVALID_ARGUMENT, naming the tensor, for a name that is taken or not UTF-8 and a shape
// that is negative or overflows. Tensors follow each other without gaps: declare wider element
// types first to keep all of them aligned. A sink's error is passed on and ends the file: all later
// calls are FAILED_PRECONDITION.
#pragma once

#include "server/format/tensor_writer.h"

namespace secateur {

class SafetensorsWriter final : public TensorWriter {
 public:
  explicit SafetensorsWriter(ByteSink sink) : sink_(std::move(sink)) {}

  absl::Status Begin(const std::vector<TensorSpec>& specs,
                     const std::map<std::string, std::string>& metadata) override;
  absl::Status Write(std::string_view data) override;
  absl::Status Finish() override;

 private:
  enum class State { kNew, kOpen, kFailed, kFinished };

  absl::Status CheckOpen(std::string_view call) const;
  absl::Status Send(std::string_view data);
  void SkipComplete();

  ByteSink sink_;
  std::vector<TensorSpec> specs_;
  size_t current_ = 0;     // index into specs_; all before it are complete
  int64_t remaining_ = 0;  // bytes the current tensor still lacks
  State state_ = State::kNew;
};

}  // namespace secateur
