// Tensors that were just computed, out of memory: they stand in an unnamed temporary file, which
// the system drops from memory when it needs the room, and are read through a map.
//
// Legal order: Create(), Add() for each tensor, Seal(), then Find() as often as you like. One
// thread at a time until Seal() has returned, thread-safe after that. The file takes room in the
// system's folder for temporary files ($TMPDIR); it has no name there, so that it is gone with the
// object, also after a crash.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/mapped_file.h"
#include "server/format/safetensors_reader.h"
#include "server/format/tensor_writer.h"

namespace secateur {

class ScratchTensors {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchTensors>> Create();
  ~ScratchTensors();
  ScratchTensors(const ScratchTensors&) = delete;
  ScratchTensors& operator=(const ScratchTensors&) = delete;

  // INVALID_ARGUMENT for bytes that are not the spec's size, ALREADY_EXISTS for a known name,
  // FAILED_PRECONDITION after Seal(), RESOURCE_EXHAUSTED for a full disk.
  absl::Status Add(const TensorSpec& spec, std::string_view bytes);
  absl::Status Seal();

  // Null for a name that was not added, and before Seal().
  const TensorView* Find(const std::string& name) const;

 private:
  explicit ScratchTensors(int file) : file_(file) {}

  int file_;  // -1 once sealed
  int64_t size_ = 0;
  std::map<std::string, std::pair<TensorSpec, int64_t>> added_;  // with the offset of the bytes
  std::shared_ptr<const MappedFile> map_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace secateur
