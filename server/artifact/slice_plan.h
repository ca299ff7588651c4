// Mask and tensor table to the rows and columns each tensor keeps.
//
// Pure data and copying of bytes: no libtorch. The plan refers to the mask and the replaced tensors
// it was made from, which must outlive it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/format/safetensors_reader.h"
#include "server/format/tensor_writer.h"
#include "server/mask/cut.h"
#include "server/model/tensor_table.h"

namespace secateur {

struct TensorSlice {
  TensorInfo info;                             // of the base tensor, or of one that is added
  TensorSpec spec;                             // of the expert's tensor; the base's stored dtype
  int axis = -1;                               // which axis is cut; -1: copied whole
  const std::vector<int32_t>* kept = nullptr;  // along `axis`
  bool zeros = false;                          // channels that go become zeros, the shape stays
  const TensorView* replaced = nullptr;        // comes instead of the base's tensor
};

// One entry for each tensor of the table (WithAddedTensors), in its order. INVALID_ARGUMENT when
// the mask does not fit the config (layers, channels and rows in range, ascending, at least one,
// for a uniform shape equal counts in every layer and all of attention, for a masked one all rows)
// or a replaced tensor has not the type and shape it should have.
absl::StatusOr<std::vector<TensorSlice>> MakeSlicePlan(const ModelConfig& config,
                                                       const SafetensorsFolder& base,
                                                       const Cut& cut);

// Streams the kept bytes of one tensor through a buffer of at most 1 MiB.
absl::Status StreamSlice(const TensorSlice& slice, const TensorView& base, const ByteSink& sink);

}  // namespace secateur
