#include "server/model/rope_config.h"

#include <limits>

#include "server/base/status_macros.h"

namespace secateur {
namespace {

constexpr int64_t kMaxPositions = std::numeric_limits<int32_t>::max();

absl::Status ParseLlama3(const Fields& fields, const Fields& top, int64_t max_positions,
                         RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::kLlama3;
  ASSIGN_OR_RETURN(rope.factor, fields.Positive("factor"));
  ASSIGN_OR_RETURN(rope.low_freq_factor, fields.Positive("low_freq_factor"));
  ASSIGN_OR_RETURN(rope.high_freq_factor, fields.Positive("high_freq_factor"));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return fields.Invalid("high_freq_factor", "it must be greater than low_freq_factor");
  }
  const std::string_view key = "original_max_position_embeddings";
  // Transformers lets the key outside the object win.
  ASSIGN_OR_RETURN(
      rope.original_max_positions,
      (top.Get(key).is_null() ? fields : top).IntegerOr(key, max_positions, 1, kMaxPositions));
  return absl::OkStatus();
}

// One object of rotary settings: {"rope_type": ..., "rope_theta": ..., "factor": ...}.
absl::StatusOr<RopeConfig> ParseOne(const Fields& fields, const Fields& top, double theta,
                                    int64_t max_positions) {
  RopeConfig rope;
  ASSIGN_OR_RETURN(rope.theta, fields.PositiveOr("rope_theta", theta));
  ASSIGN_OR_RETURN(const double rotated, fields.PositiveOr("partial_rotary_factor", 1.0));
  if (rotated != 1.0) {
    return fields.Unimplemented("partial_rotary_factor", "only 1.0, whole heads, is supported");
  }
  // Older folders say "type".
  const std::string_view key = fields.Get("rope_type").is_null() ? "type" : "rope_type";
  ASSIGN_OR_RETURN(const std::string type, fields.StringOr(key, "default"));
  if (type == "default") return rope;
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
    ASSIGN_OR_RETURN(rope.factor, fields.Positive("factor"));
    return rope;
  }
  if (type == "llama3") {
    RETURN_IF_ERROR(ParseLlama3(fields, top, max_positions, rope));
    return rope;
  }
  return fields.Unimplemented(key, "supported are \"default\", \"linear\" and \"llama3\"");
}

bool Present(const Fields& fields, std::string_view key) {
  return !fields.Get(key).is_null() && !fields.Get(key).empty();
}

// `key` of config.json as rotary settings; plain ones with `theta` where it is absent.
absl::StatusOr<RopeConfig> ParseAt(const Fields& fields, std::string_view key, const Fields& top,
                                   double theta, int64_t max_positions) {
  if (!Present(fields, key)) return RopeConfig{.theta = theta};
  ASSIGN_OR_RETURN(const Fields object, fields.Object(key));
  return ParseOne(object, top, theta, max_positions);
}

// rope_parameters.{full_attention, sliding_attention}, or rope_scaling (full attention only) with
// rope_theta and rope_local_base_freq.
absl::Status ParseByLayerType(const Fields& fields, double theta, double local_theta,
                              ModelConfig& config) {
  const int64_t positions = config.max_positions;
  if (Present(fields, "rope_scaling") || !Present(fields, "rope_parameters")) {
    ASSIGN_OR_RETURN(config.rope, ParseAt(fields, "rope_scaling", fields, theta, positions));
    config.local_rope = RopeConfig{.theta = local_theta};
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Fields nested, fields.Object("rope_parameters"));
  if (!nested.Has("full_attention") && !nested.Has("sliding_attention")) {
    return fields.Invalid("rope_parameters",
                          "it must hold \"full_attention\" and \"sliding_attention\"");
  }
  ASSIGN_OR_RETURN(config.rope, ParseAt(nested, "full_attention", fields, theta, positions));
  ASSIGN_OR_RETURN(config.local_rope,
                   ParseAt(nested, "sliding_attention", fields, local_theta, positions));
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseRope(const Fields& fields, const Family& family, ModelConfig& config) {
  ASSIGN_OR_RETURN(const double theta, fields.PositiveOr("rope_theta", family.rope_theta));
  if (family.sliding_window > 0) {
    ASSIGN_OR_RETURN(const double local_theta,
                     fields.PositiveOr("rope_local_base_freq", family.local_rope_theta));
    return ParseByLayerType(fields, theta, local_theta, config);
  }
  const std::string_view key = Present(fields, "rope_scaling") ? "rope_scaling" : "rope_parameters";
  ASSIGN_OR_RETURN(config.rope, ParseAt(fields, key, fields, theta, config.max_positions));
  return absl::OkStatus();
}

}  // namespace secateur
