// How alike dimension values are in the neurons they need, from cached profiles alone.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

struct DimensionRequest {
  std::vector<std::pair<std::string, std::string>> values;  // key and value; at least 2, distinct
  double neuron_ratio = 0.35;  // share of FFN neurons removed, above 0 and below 1
  int64_t max_document_tokens = 512;
};

struct ComparedDimensions {
  std::vector<v1::DimensionComparison> pairs;  // 1-2, 1-3, ..., 2-3, ...
  int64_t width = 0;                           // neurons kept of each layer, at least 1
  double jaccard_by_chance = 0;
};

// FAILED_PRECONDITION, with field "values", when no calibration corpus carries a label or one has
// no profile.
absl::StatusOr<ComparedDimensions> CompareDimensions(const ResidentModel& model,
                                                     const DimensionRequest& request,
                                                     const Stores& stores);

}  // namespace secateur
