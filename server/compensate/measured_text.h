// What a base model shows on a selection of text, ready for cuts of any size: second moments of
// every layer's activations and, if wanted, those of its attention and the order in which its
// neurons go. Costly to make (a forward pass, and for the orders a matrix inverse a layer), so made
// once for all sizes.
//
// The moments of calibration and held-out text (2 x layers x neurons^2 x 4 bytes; of attention
// (query heads x head_dim)^2) lie in temporary files (ScratchTensors). Immutable after it is made;
// thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/gram.h"
#include "server/compensate/weighted_batch.h"
#include "server/format/scratch_tensors.h"
#include "server/mask/allocate.h"
#include "server/model/transformer.h"

namespace secateur {

// Neurons that go together in an order, and by which widths of layers differ.
inline constexpr int64_t kRemovalStep = 32;

// Weights of the tokens of both parts sum to about 1.
struct CompensationText {
  std::vector<WeightedBatch> calibration;
  std::vector<WeightedBatch> held_out;  // empty: nothing is tuned or compared

  int64_t tokens() const;
};

// For each layer the neurons that never go, ascending.
using ProtectedChannels = std::vector<std::vector<uint16_t>>;

struct MeasureOptions {
  bool orders = false;                   // find the removal orders of neurons, too
  bool attention = false;                // measure what o_proj reads, too
  ProtectedChannels protected_channels;  // that the orders leave alone; empty: there are none
};

class MeasuredText {
 public:
  // Runs both parts through `base`, which the caller holds.
  // Memory: the residual streams (tokens x hidden size, in the compute type) and a few matrices of
  // neurons^2 in float64. INVALID_ARGUMENT for no calibration text or text that does not fit the
  // model; RESOURCE_EXHAUSTED for a full disk. Reports "measure" in layers; stops within one batch,
  // or one step of a layer's order, after a cancel.
  static absl::StatusOr<std::shared_ptr<const MeasuredText>> Measure(const Transformer& base,
                                                                     CompensationText text,
                                                                     const MeasureOptions& options,
                                                                     RunContext& context);

  const CompensationText& text() const { return text_; }
  bool has_held_out() const { return !text_.held_out.empty(); }
  // By layer, errors divided by the layer's residual size. Empty if they were not asked for.
  const std::vector<RemovalCurve>& curves() const { return curves_; }
  // Mean over held-out tokens, in nats; 0 without held-out text.
  double base_held_out_nats() const { return base_held_out_nats_; }
  int64_t disk_bytes() const { return disk_bytes_; }

  // Read from the file, to the device that was measured on. Inside GuardTorch.
  Gram Calibration(int64_t layer) const;
  Gram HeldOut(int64_t layer) const;  // REQUIRES: has_held_out()
  bool has_attention() const { return !calibration_attention_.sums.empty(); }
  Gram AttentionCalibration(int64_t layer) const;  // REQUIRES: has_attention()
  Gram AttentionHeldOut(int64_t layer) const;      // REQUIRES: both
  // Weighted mean of the activations on calibration text, and with `all` on held-out text, too:
  // [neurons], float64. Reads no file.
  at::Tensor MeanActivations(int64_t layer, bool all) const;

 private:
  // Of one part of the text, and one sublayer.
  struct Moments {
    std::unique_ptr<ScratchTensors> tensors;
    std::vector<Gram> sums;  // by layer, without their moments

    absl::Status Add(Gram gram);
    Gram Read(int64_t layer, const at::Device& device) const;
  };
  class Measurer;

  MeasuredText(CompensationText text, at::Device device)
      : text_(std::move(text)), device_(device) {}

  const CompensationText text_;
  const at::Device device_;
  Moments calibration_;
  Moments held_out_;
  Moments calibration_attention_;
  Moments held_out_attention_;
  std::vector<RemovalCurve> curves_;
  double base_held_out_nats_ = 0;
  int64_t disk_bytes_ = 0;
};

// down_proj and o_proj of a layer as errors see them (Gained, with the family's post norms). Inside
// GuardTorch.
at::Tensor GainedDown(const Transformer& base, int64_t layer);
at::Tensor GainedOutput(const Transformer& base, int64_t layer);

}  // namespace secateur
