// The tensors of a profile's file that are about attention (FORMAT.md). Internal to server/profile.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/format/safetensors_reader.h"
#include "server/format/tensor_writer.h"
#include "server/profile/attention_statistics.h"

namespace secateur {

// In the order of the file; none for heads that are all 0.
std::vector<TensorSpec> AttentionSpecs(int64_t layers, const AttentionHeads& heads);

// What no sequence of AddAttention and Merge can make: INVALID_ARGUMENT naming tensor and layer.
absl::Status CheckAttention(const AttentionProfile& attention, int64_t documents);

// The tensors of AttentionSpecs.
absl::Status WriteAttention(const AttentionProfile& attention, TensorWriter& writer);
absl::StatusOr<AttentionProfile> ReadAttention(const SafetensorsReader& reader, int64_t layers,
                                               const AttentionHeads& heads);

}  // namespace secateur
