// What was asked for, in numbers of neurons.
//
// A budget decides how many FFN neurons are removed, the same count in every layer, and the kept
// width is a multiple of the target's alignment (the base's own width always qualifies). Rows of
// the vocabulary and KV head groups that go as well are known before and count in. Pure functions.
//
// Budgets that speak of neurons (NeuronRatio, Width) reach down to the alignment itself. Those that
// speak of the whole model may take at most kMostNeuronsRemoved of the neurons: what is left beyond
// that is no expert, and the size is better reached by removing other units too (25 % of all
// parameters of Gemma 3 270M would leave 109 of 2,048 neurons; ALGORITHM 4.1).
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "server/model/config.h"

namespace secateur {

inline constexpr double kMostNeuronsRemoved = 0.9;

// Shares are in [0, 1). "Nearest" widths are nearest in the achieved share; of two equally near the
// larger. A share nearer to 0 neurons than to the smallest width is not reached.

// Share of FFN neurons removed: the nearest width.
struct NeuronRatio {
  double value = 0;
};
// Share of all parameters removed, or of the layers' parameters: the nearest width.
struct ParameterReduction {
  double value = 0;
  bool of_blocks = false;
};
// The largest width that fits.
struct MaxParameters {
  int64_t value = 0;
};
// Of all tensors in the stored type: the largest width that fits.
struct MaxBytes {
  int64_t value = 0;
};
// Exactly this, which must be aligned.
struct Width {
  int64_t value = 0;
};
using Budget = std::variant<NeuronRatio, ParameterReduction, MaxParameters, MaxBytes, Width>;

// What changes beside FFN neurons, known before a budget is solved.
inline constexpr int64_t kWholeVocabulary = 0;
inline constexpr int64_t kAllGroups = 0;
struct OtherChanges {
  int64_t vocabulary = kWholeVocabulary;  // rows that stay
  int64_t kv_head_groups = kAllGroups;    // that every layer keeps, or all layers on average
  bool ffn_bias = false;                  // biases of the FFN come that the base may not have
};

struct Size {
  int64_t width = 0;
  int64_t vocabulary = 0;      // rows of the embedding
  int64_t kv_head_groups = 0;  // of every layer, or of all on average
  int64_t parameters = 0;
  int64_t bytes = 0;               // of all tensors as stored
  double neuron_ratio = 0;         // share of FFN neurons removed
  double parameter_reduction = 0;  // share of all parameters removed
  double block_reduction = 0;      // share of the layers' parameters removed
};

// Sizes of the model at `width`. `item_size`: bytes of an element of the stored type. Shares are of
// the base.
Size SizeAtWidth(const ModelConfig& config, int64_t width, int64_t item_size,
                 const OtherChanges& others = {});

// Sizes of the model after `removed` neurons, of all layers together; where layers lose different
// counts `width` is their mean, rounded down. `attention`: parameters of the layers' attention that
// go as well.
Size SizeAtRemoved(const ModelConfig& config, int64_t removed, int64_t item_size,
                   int64_t attention = 0);

// INVALID_ARGUMENT for a share outside [0, 1), a limit or an alignment that is not positive.
// OUT_OF_RANGE when the budget cannot be reached by FFN neurons and `others`, or is not aligned:
// the message names the budget's field, the value, the nearest that can be reached and why.
absl::StatusOr<Size> SolveWidth(const ModelConfig& config, const Budget& budget, int64_t alignment,
                                int64_t item_size, const OtherChanges& others = {});

}  // namespace secateur
