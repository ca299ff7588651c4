#include "server/profile/attention_file.h"

#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/str_join.h"
#include "server/base/strings.h"
#include "server/profile/top_ranks.h"

namespace secateur {
namespace {

std::string TensorName(std::string_view set) { return StrCat(set, "_ranks"); }

TensorSpec SpecOf(std::string_view set, int64_t layers, int64_t units) {
  return {.name = TensorName(set), .dtype = DType::kU16, .shape = {layers, units, kTopRanks}};
}

}  // namespace

std::vector<TensorSpec> AttentionSpecs(int64_t layers, const AttentionHeads& heads) {
  std::vector<TensorSpec> specs;
  if (heads == AttentionHeads{}) return specs;
  const AttentionSets<int64_t> units = UnitsOf(heads);
  const absl::Status visited = ForEachAttentionSet([&](std::string_view name, auto set) {
    specs.push_back(SpecOf(name, layers, set(units)));
    return absl::OkStatus();
  });
  return specs;
}

absl::Status CheckAttention(const AttentionProfile& attention, int64_t documents) {
  for (size_t layer = 0; layer < attention.layers.size(); ++layer) {
    RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view name, auto set) {
      return CheckTopRanks(StrCat("tensor \"", TensorName(name), "\", layer ", layer),
                           set(attention.layers[layer]), documents);
    }));
  }
  return absl::OkStatus();
}

absl::Status WriteAttention(const AttentionProfile& attention, TensorWriter& writer) {
  return ForEachAttentionSet([&](std::string_view, auto set) {
    for (const AttentionStatistics& layer : attention.layers) {
      const std::vector<uint16_t>& values = set(layer);
      RETURN_IF_ERROR(writer.Write(
          {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(uint16_t)}));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<AttentionProfile> ReadAttention(const SafetensorsReader& reader, int64_t layers,
                                               const AttentionHeads& heads) {
  if (heads == AttentionHeads{}) return AttentionProfile{};
  ASSIGN_OR_RETURN(AttentionProfile attention, AttentionProfile::Empty(layers, heads));
  const AttentionSets<int64_t> units = UnitsOf(heads);
  RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view name, auto set) -> absl::Status {
    const TensorSpec spec = SpecOf(name, layers, set(units));
    ASSIGN_OR_RETURN(const TensorView view, reader.Find(spec.name));
    if (view.dtype != spec.dtype || view.shape != spec.shape) {
      return absl::InvalidArgumentError(
          StrCat("tensor \"", spec.name, "\" is ", DTypeName(view.dtype), " of shape [",
                 absl::StrJoin(view.shape, ", "), "]; expected ", DTypeName(spec.dtype),
                 " of shape [", absl::StrJoin(spec.shape, ", "), "]"));
    }
    const char* next = view.bytes.data();
    for (AttentionStatistics& layer : attention.layers) {
      std::vector<uint16_t>& values = set(layer);
      std::memcpy(values.data(), next, values.size() * sizeof(uint16_t));
      next += values.size() * sizeof(uint16_t);
    }
    return absl::OkStatus();
  }));
  return attention;
}

}  // namespace secateur
