// From a base model and measured text to the neurons that stay and the down_proj (and o_proj, where
// channels of attention go) that makes up for the rest (ALGORITHM 5.2 and the recipe at the end of
// 0.1).
//
// For each layer the ridge of its least squares is the one that does best on held-out text; none
// does best where compensation does harm. Then the held-out text runs through every candidate, cut
// and compensated, layer by layer: one width for all layers, and widths by layer where they are
// allowed. The candidate that predicts it best wins. Plain pruning without compensation is always a
// candidate, so the result is never worse than that on held-out text. Up to here the held-out text
// has only judged; the winner is then solved once more with all text. Without held-out text nothing
// is compared, and the result is what was asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/compensation.h"
#include "server/compensate/measured_text.h"
#include "server/compensate/ridge.h"
#include "server/format/scratch_tensors.h"
#include "server/mask/cut.h"
#include "server/model/transformer.h"

namespace secateur {

// Candidates at most, without widths by layer and with them.
inline constexpr int64_t kUniformCandidates = 2;
inline constexpr int64_t kMaskedCandidates = 9;

struct CompensationOptions {
  // The mask without compensation, the same count in every layer: what is compensated or, where
  // the measured text has removal orders, the candidate to beat. Of attention all candidates keep
  // what it keeps.
  const Mask* plain = nullptr;
  Shape shape = Shape::kUniform;  // kMasked lets widths differ between layers
  // kSequential tries that as well, on the best of what least squares makes, and takes it where it
  // does better. kBias compensates the plain mask. REQUIRES: not kNone.
  Compensation compensation = Compensation::kLeastSquares;
};

// How widths were distributed over layers.
enum class WidthsBy {
  kUniform,       // the same everywhere
  kCurve,         // where removing costs least, by the removal curves
  kHalfWay,       // between the two
  kGuardedCurve,  // by the curves, but at least 80 % of the first and last layers stay (Guard)
};

// How a guarded curve differs from the curve. What was measured: the pure curves empty first and
// late layers too far, and where exactly differs between models, so several are tried.
struct Guard {
  int64_t first_layers = 0, last_layers = 0;  // that keep at least 80 %
  // An error in the last layer counts e^tilt times as much as one in the first.
  double tilt = 0;
};

struct CandidateResult {
  Compensation compensation = Compensation::kLeastSquares;
  WidthsBy widths = WidthsBy::kUniform;
  Guard guard;               // of kGuardedCurve
  double held_out_nats = 0;  // mean per token; 0 without held-out text
};

struct LayerCompensation {
  int64_t width = 0;
  std::optional<double>
      ridge;  // relative to the mean diagonal of the moments, before it grew
              // (FactorWithRidge); absent where kept weights stayed as they were, and with kBias
  // On held-out text, as a share of the residual stream's mean square, at the uniform width, where
  // the ridge is chosen, whatever `width` came to: of the plain mask, and of the neurons that the
  // removal order keeps, with least squares. 0 without held-out text, and with kBias.
  double plain_error = 0;
  double error = 0;
  RidgeChoice attention;  // of o_proj; all 0 where no channels of attention go
};

struct Compensated {
  Mask mask;
  std::unique_ptr<ScratchTensors> replaced;  // sealed; null where plain pruning won
  CandidateResult chosen;
  std::vector<CandidateResult> candidates;  // all, in the order they were tried
  std::vector<LayerCompensation> layers;
};

// Memory: the residual streams of the held-out text once a candidate (with kSequential of all text
// what SolveSequential() holds) and a few matrices of neurons^2 in float64; replacement tensors lie
// in a temporary file. The caller holds the device. INVALID_ARGUMENT for a mask or measured text
// that is not this base's, or a base whose config can hold no bias. Reports "tune", "compensate",
// "sequential" and "solve" (of o_proj "tune_attention" and "solve_attention") in layers, "judge" in
// candidates; stops within one batch or one solve after a cancel.
absl::StatusOr<Compensated> Compensate(const Transformer& base, const MeasuredText& measured,
                                       const CompensationOptions& options, RunContext& context);

}  // namespace secateur
