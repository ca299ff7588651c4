// Hugging Face's safetensors container: a JSON header and tensors behind it, memory mapped.
//
// The header is checked against the file before anything is handed out: its length (at most
// 100 MiB), its JSON, each dtype, each shape (no overflow), each pair of offsets (inside the file,
// of the right size, no overlap, no hole, covering the data to its end), no duplicate names. A file
// that fails is INVALID_ARGUMENT with the file's path, the tensor's name and what was found; one
// with an element type that dtype.h lacks is UNIMPLEMENTED.
// Thread-safe; the views stay valid as long as the reader or a copy of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mapped_file.h"
#include "server/format/dtype.h"

namespace secateur {

struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string_view bytes;  // little endian, row major; files may place it off its alignment
};

class SafetensorsReader {
 public:
  static absl::StatusOr<SafetensorsReader> Open(const std::string& path);
  // For bytes in memory (profiles): `name` stands in for the path in errors; the reader keeps a
  // copy of `bytes`.
  static absl::StatusOr<SafetensorsReader> FromBytes(std::string name, std::string bytes);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  // The header's "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& name() const { return name_; }
  // NOT_FOUND naming the file and the tensor.
  absl::StatusOr<TensorView> Find(const std::string& tensor) const;

 private:
  absl::Status Parse(std::string_view bytes);

  std::string name_;
  std::shared_ptr<const void> owner_;  // the map or the copy
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

// All tensors of a Hugging Face folder: `model.safetensors`, or else the shards that
// `model.safetensors.index.json` names (each name exactly once, in the shard the index says, no
// shard name outside the folder). Errors as above; a missing shard is INVALID_ARGUMENT; NOT_FOUND
// when there is neither file.
class SafetensorsFolder {
 public:
  static absl::StatusOr<SafetensorsFolder> Open(const std::string& folder);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::vector<SafetensorsReader>& files() const { return files_; }
  absl::StatusOr<TensorView> Find(const std::string& tensor) const;

 private:
  absl::Status AddShards(const std::map<std::string, std::string>& index);

  std::string folder_;
  std::vector<SafetensorsReader> files_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace secateur
