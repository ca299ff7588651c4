#include "server/mask/budget.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/tensor_table.h"

namespace secateur {
namespace {

double Share(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

bool Has(const TensorInfo& tensor, Axis axis) {
  return std::find(tensor.axes.begin(), tensor.axes.end(), axis) != tensor.axes.end();
}

// What a model and each of its neurons cost. One look at the tensor table: all counts are affine in
// the width.
struct Counts {
  int64_t own = 0;  // width
  int64_t layers = 0;
  int64_t vocabulary = 0;      // rows that stay
  int64_t groups = 0;          // KV head groups of a layer that stay
  int64_t parameters = 0;      // of all tensors of the base
  int64_t blocks = 0;          // of the layers' tensors
  int64_t neuron = 0;          // of one neuron, in all layers together
  int64_t removed_rows = 0;    // parameters of the rows that go
  int64_t removed_groups = 0;  // parameters of the groups that go
  int64_t added = 0;           // parameters that the base has not, at its width

  Counts(const ModelConfig& config, const OtherChanges& others)
      : own(config.intermediate_size),
        layers(config.num_layers),
        vocabulary(others.vocabulary == kWholeVocabulary ? config.vocabulary_size
                                                         : others.vocabulary),
        groups(others.kv_head_groups == kAllGroups ? config.num_kv_heads : others.kv_head_groups) {
    ModelConfig expert = config;
    expert.mlp_bias |= others.ffn_bias;
    for (const TensorInfo& tensor : TensorTable(expert)) {
      int64_t elements = 1;
      for (const int64_t size : tensor.shape) elements *= size;
      const bool is_added = IsFfnBias(tensor.role) && !config.mlp_bias;
      (is_added ? added : parameters) += elements;
      if (tensor.layer >= 0 && !is_added) blocks += elements;
      if (Has(tensor, Axis::kNeuron)) neuron += elements / own;
      if (Has(tensor, Axis::kVocabulary)) {
        removed_rows += elements / config.vocabulary_size * (config.vocabulary_size - vocabulary);
      }
      if (Has(tensor, Axis::kQueryChannel) || Has(tensor, Axis::kKvChannel)) {
        removed_groups += elements / config.num_kv_heads * (config.num_kv_heads - groups);
      }
    }
  }

  Size At(int64_t width, int64_t item_size) const {
    return AtRemoved((own - width) * layers, item_size);
  }

  // `neurons` go, of all layers together, and as many parameters of `attention`.
  Size AtRemoved(int64_t neurons, int64_t item_size, int64_t attention = 0) const {
    const int64_t removed = neurons * (neuron / layers) + removed_groups + attention - added;
    Size size;
    size.width = own - (neurons + layers - 1) / layers;
    size.vocabulary = vocabulary;
    size.kv_head_groups = groups;
    size.parameters = parameters - removed - removed_rows;
    size.bytes = size.parameters * item_size;
    size.neuron_ratio = Share(neurons, own * layers);
    size.parameter_reduction = Share(removed + removed_rows, parameters);
    size.block_reduction = Share(removed, blocks);
    return size;
  }
};

// The widths that a model can be cut to.
class Widths {
 public:
  Widths(int64_t own, int64_t alignment) : own_(own), alignment_(alignment) {}

  int64_t own() const { return own_; }
  int64_t alignment() const { return alignment_; }
  bool Allows(int64_t width) const {
    return width > 0 && width <= own_ && (width == own_ || width % alignment_ == 0);
  }

  // The largest allowed width up to `width` >= 0, or 0.
  int64_t Down(int64_t width) const { return width >= own_ ? own_ : width - width % alignment_; }
  // The smallest allowed width from `width` in [0, own] up.
  int64_t Up(int64_t width) const {
    const int64_t down = Down(width);
    return down == width ? width : down > own_ - alignment_ ? own_ : down + alignment_;
  }
  int64_t smallest() const { return Up(1); }
  int64_t smallest_expert() const {
    return Up(std::max<int64_t>(
        1, static_cast<int64_t>(std::ceil(static_cast<double>(own_) * (1 - kMostNeuronsRemoved)))));
  }

  // The allowed width, or 0, whose share of `whole` removed is nearest to `share`, when each neuron
  // is `unit` of the whole.
  int64_t Nearest(double share, int64_t unit, int64_t whole) const {
    const double removed = share * static_cast<double>(whole) / static_cast<double>(unit);
    const double exact = std::max(0.0, static_cast<double>(own_) - removed);
    const int64_t below = Down(static_cast<int64_t>(exact));
    const int64_t above = Up(std::min(below + 1, own_));
    const double too_much = Share((own_ - below) * unit, whole) - share;
    const double too_little = share - Share((own_ - above) * unit, whole);
    return too_much < too_little ? below : above;
  }

 private:
  const int64_t own_;
  const int64_t alignment_;
};

absl::Status CheckShare(std::string_view field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(
      StrCat(field, " is ", value, "; it is a share of at least 0 and less than 1"));
}

absl::Status CheckLimit(std::string_view field, int64_t value) {
  if (value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(field, " is ", value, "; it must be positive"));
}

std::string Percent(double share) { return absl::StrFormat("%.2f %%", 100 * share); }

class Solver {
 public:
  Solver(const Counts& counts, int64_t alignment, int64_t item_size)
      : counts_(counts), widths_(counts.own, alignment), item_size_(item_size) {}

  absl::StatusOr<int64_t> operator()(const NeuronRatio& budget) const {
    RETURN_IF_ERROR(CheckShare("neuron_ratio", budget.value));
    const int64_t width = widths_.Nearest(budget.value, 1, widths_.own());
    if (width >= widths_.smallest()) return width;
    const Size most = At(widths_.smallest());
    return absl::OutOfRangeError(
        StrCat("neuron_ratio ", budget.value, " cannot be reached: the smallest width that is a ",
               "multiple of ", widths_.alignment(), " is ", most.width, " of ", widths_.own(),
               " neurons, a neuron_ratio of ", most.neuron_ratio));
  }

  absl::StatusOr<int64_t> operator()(const ParameterReduction& budget) const {
    RETURN_IF_ERROR(CheckShare("parameter_reduction", budget.value));
    const int64_t whole = budget.of_blocks ? counts_.blocks : counts_.parameters;
    const int64_t others =
        counts_.added - counts_.removed_groups - (budget.of_blocks ? 0 : counts_.removed_rows);
    const int64_t width =
        widths_.Nearest(budget.value + Share(others, whole), counts_.neuron, whole);
    if (width >= widths_.smallest_expert()) return width;
    const Size most = At(widths_.smallest_expert());
    const std::string_view base = budget.of_blocks ? "the layers' parameters" : "all parameters";
    const double reached = budget.of_blocks ? most.block_reduction : most.parameter_reduction;
    return absl::OutOfRangeError(StrCat(
        "parameter_reduction ", budget.value, " of ", base, " cannot be reached: FFN neurons are ",
        Percent(Share(counts_.own * counts_.neuron, whole)), " of ", base,
        "; the most that removing them", Beside(), " can reach is ", reached, LeavesEnough(most)));
  }

  absl::StatusOr<int64_t> operator()(const MaxParameters& budget) const {
    RETURN_IF_ERROR(CheckLimit("max_parameters", budget.value));
    return Largest("max_parameters", budget.value, budget.value, &Size::parameters);
  }

  absl::StatusOr<int64_t> operator()(const MaxBytes& budget) const {
    RETURN_IF_ERROR(CheckLimit("max_bytes", budget.value));
    return Largest("max_bytes", budget.value, budget.value / item_size_, &Size::bytes);
  }

  absl::StatusOr<int64_t> operator()(const Width& budget) const {
    if (widths_.Allows(budget.value)) return budget.value;
    const int64_t below = widths_.Down(std::clamp<int64_t>(budget.value, 0, widths_.own()));
    const int64_t above = widths_.Up(std::min(below + 1, widths_.own()));
    const std::string nearest =
        below == 0 || below == above ? StrCat(above) : StrCat(below, " and ", above);
    return absl::OutOfRangeError(
        StrCat("width ", budget.value, " cannot be had: a width is a multiple of ",
               widths_.alignment(), " from ", widths_.smallest(), " to ", widths_.own(),
               ", or the base's own ", widths_.own(), "; nearest: ", nearest));
  }

 private:
  Size At(int64_t width) const { return counts_.At(width, item_size_); }

  // What else has been decided to go.
  std::string_view Beside() const {
    if (counts_.removed_groups > 0) return " beside KV head groups";
    return counts_.removed_rows > 0 ? " beside rows of the vocabulary" : " alone";
  }

  std::string LeavesEnough(const Size& most) const {
    return StrCat(" (width ", most.width, " of ", widths_.own(), " by steps of ",
                  widths_.alignment(), "; at most ", Percent(kMostNeuronsRemoved),
                  " of the neurons are removed for such a budget)");
  }

  // The largest width with at most `parameters`.
  absl::StatusOr<int64_t> Largest(std::string_view field, int64_t value, int64_t parameters,
                                  int64_t Size::* achieved) const {
    const int64_t others = At(0).parameters;
    const int64_t width =
        parameters < others ? 0 : widths_.Down((parameters - others) / counts_.neuron);
    if (width >= widths_.smallest_expert()) return width;
    const Size least = At(widths_.smallest_expert());
    return absl::OutOfRangeError(StrCat(field, " ", value,
                                        " cannot be reached: removing FFN neurons", Beside(),
                                        " gets down to ", least.*achieved, LeavesEnough(least)));
  }

  const Counts& counts_;
  const Widths widths_;
  const int64_t item_size_;
};

}  // namespace

Size SizeAtWidth(const ModelConfig& config, int64_t width, int64_t item_size,
                 const OtherChanges& others) {
  return Counts(config, others).At(width, item_size);
}

Size SizeAtRemoved(const ModelConfig& config, int64_t removed, int64_t item_size,
                   int64_t attention) {
  return Counts(config, {}).AtRemoved(removed, item_size, attention);
}

absl::StatusOr<Size> SolveWidth(const ModelConfig& config, const Budget& budget, int64_t alignment,
                                int64_t item_size, const OtherChanges& others) {
  RETURN_IF_ERROR(CheckLimit("the alignment of widths", alignment));
  RETURN_IF_ERROR(CheckLimit("the size of an element", item_size));
  const Counts counts(config, others);
  ASSIGN_OR_RETURN(const int64_t width, std::visit(Solver(counts, alignment, item_size), budget));
  return counts.At(width, item_size);
}

}  // namespace secateur
