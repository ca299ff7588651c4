#include "server/service/expert_spec.h"

#include <algorithm>
#include <vector>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/evaluation_corpora.h"
#include "server/service/names.h"
#include "server/service/validate.h"

namespace secateur {
namespace {

absl::Status CheckShare(double value, const std::string& path) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return BadField(path, StrCat(value, " is not a share of at least 0 and below 1 (35 % is 0.35)"));
}

absl::Status CheckPositive(int64_t value, const std::string& path) {
  return value > 0 ? absl::OkStatus() : BadField(path, StrCat(value, " is not above 0"));
}

absl::StatusOr<Selection> SelectionFromProto(const v1::DimensionSelection& select,
                                             const std::string& path) {
  if (!IsSlug(select.key())) {
    return BadField(path + ".key", "must be a slug: [a-z0-9] then up to 62 of [a-z0-9._-]");
  }
  Selection selection{.key = select.key(),
                      .values = {select.values().begin(), select.values().end()},
                      .weight = select.weight() == 0 ? 1.0 : select.weight()};
  if (selection.values.empty()) return BadField(path + ".values", "at least one value is needed");
  if (selection.values.size() > 64) return BadField(path + ".values", "at most 64 values");
  for (const std::string& value : selection.values) {
    if (!IsSlug(value)) {
      return BadField(path + ".values",
                      "each must be a slug: [a-z0-9] then up to 62 of [a-z0-9._-]");
    }
  }
  std::sort(selection.values.begin(), selection.values.end());
  if (std::adjacent_find(selection.values.begin(), selection.values.end()) !=
      selection.values.end()) {
    return BadField(path + ".values", "a value stands there twice");
  }
  if (!(selection.weight > 0 && selection.weight <= 1e6)) {
    return BadField(path + ".weight",
                    StrCat(select.weight(), " is not above 0 and at most 1000000"));
  }
  return selection;
}

absl::StatusOr<std::vector<Selection>> SelectFromProto(const v1::ExpertSpec& spec) {
  if (spec.select_size() < 1 || spec.select_size() > 8) {
    return BadField("spec.select", StrCat(spec.select_size(), " dimensions; 1 to 8 are possible"));
  }
  std::vector<Selection> selections;
  for (int i = 0; i < spec.select_size(); ++i) {
    ASSIGN_OR_RETURN(Selection selection,
                     SelectionFromProto(spec.select(i), StrCat("spec.select[", i, "]")));
    selections.push_back(std::move(selection));
  }
  std::sort(selections.begin(), selections.end(),
            [](const Selection& a, const Selection& b) { return a.key < b.key; });
  for (size_t i = 1; i < selections.size(); ++i) {
    if (selections[i].key == selections[i - 1].key) {
      return BadField("spec.select", StrCat("key \"", selections[i].key,
                                            "\" stands there twice: give its values in one entry"));
    }
  }
  return selections;
}

// What goes with a trimmed vocabulary.
absl::Status CheckVocabulary(const v1::ExpertSpec& spec) {
  if (!Removes(spec, v1::VOCABULARY)) {
    if (spec.vocabulary_size() == 0) return absl::OkStatus();
    return NotHonoured("spec.vocabulary_size", "it goes with VOCABULARY in units");
  }
  if (spec.vocabulary_size() < 0) {
    return BadField("spec.vocabulary_size", StrCat(spec.vocabulary_size(), " is below 0"));
  }
  if (spec.shape() == v1::MASKED) {
    return NotHonoured("spec.shape",
                       "MASKED keeps the base's shape, all rows of the vocabulary too");
  }
  if (spec.target().engine() == v1::LLAMA_CPP) {
    return NotHonoured("spec.target.engine",
                       "LLAMA_CPP's converter knows tokenizers by what they make of a text, and a "
                       "trimmed one makes something else of it");
  }
  return absl::OkStatus();
}

// Where no neurons go, what ranks them or makes up for them has nothing to do.
absl::Status CheckNoNeurons(const v1::ExpertSpec& spec) {
  if (Removes(spec, v1::FFN_NEURON)) return absl::OkStatus();
  const auto idle = [](std::string_view path) {
    return NotHonoured(path, "it is about neurons, and units has VOCABULARY alone");
  };
  if (spec.has_budget()) return idle("spec.budget");
  if (spec.rule() != v1::RULE_UNSPECIFIED) return idle("spec.rule");
  if (spec.quantile() != 0) return idle("spec.quantile");
  if (spec.has_general_weight()) return idle("spec.general_weight");
  if (spec.compensation() != v1::COMPENSATION_UNSPECIFIED) return idle("spec.compensation");
  if (spec.max_document_tokens() != 0) return idle("spec.max_document_tokens");
  for (int i = 0; i < spec.select_size(); ++i) {
    if (spec.select(i).weight() != 0) return idle(StrCat("spec.select[", i, "].weight"));
  }
  return absl::OkStatus();
}

// Channels of attention go as published or not at all.
absl::Status CheckAttention(const v1::ExpertSpec& spec) {
  if (!Removes(spec, v1::ATTENTION_CHANNEL)) return absl::OkStatus();
  if (!Removes(spec, v1::FFN_NEURON)) {
    return NotHonoured("spec.units", "ATTENTION_CHANNEL goes with FFN_NEURON");
  }
  if (spec.rule() != v1::CUS_PRUN) {
    return NotHonoured("spec.rule", "ATTENTION_CHANNEL in units goes with CUS_PRUN alone");
  }
  if (spec.shape() == v1::MASKED) return absl::OkStatus();
  return NotHonoured("spec.shape",
                     "ATTENTION_CHANNEL in units goes with MASKED: no engine reads attention with "
                     "other channels in every layer");
}

// What KV head groups go with.
absl::Status CheckKvHeadGroups(const v1::ExpertSpec& spec) {
  if (!Removes(spec, v1::KV_HEAD_GROUP)) {
    if (spec.kv_head_groups() == 0) return absl::OkStatus();
    return NotHonoured("spec.kv_head_groups", "it goes with KV_HEAD_GROUP in units");
  }
  if (spec.kv_head_groups() < 0) {
    return BadField("spec.kv_head_groups", StrCat(spec.kv_head_groups(), " is below 0"));
  }
  if (!Removes(spec, v1::FFN_NEURON)) {
    return NotHonoured("spec.units",
                       "KV_HEAD_GROUP goes with FFN_NEURON; a budget of the base's own width keeps "
                       "all neurons");
  }
  if (spec.rule() == v1::CUS_PRUN) {
    return NotHonoured("spec.rule", "CUS_PRUN takes ATTENTION_CHANNEL, not KV_HEAD_GROUP");
  }
  if (spec.compensation() == v1::BIAS) {
    return NotHonoured("spec.compensation", "BIAS makes up for neurons alone, not KV_HEAD_GROUP");
  }
  const bool comparable = spec.rule() == v1::RULE_UNSPECIFIED || spec.rule() == v1::SECOND_ORDER ||
                          spec.rule() == v1::RELATIVE_MEAN;
  if (spec.kv_head_groups() == 0 && !comparable) {
    return NotHonoured("spec.kv_head_groups",
                       StrCat("it must say how many stay: by ", v1::Rule_Name(spec.rule()),
                              " neurons do not compare with groups"));
  }
  return absl::OkStatus();
}

// What goes with what.
absl::Status CheckCombination(const v1::ExpertSpec& spec) {
  RETURN_IF_ERROR(CheckVocabulary(spec));
  RETURN_IF_ERROR(CheckAttention(spec));
  RETURN_IF_ERROR(CheckKvHeadGroups(spec));
  RETURN_IF_ERROR(CheckNoNeurons(spec));
  const bool published = spec.rule() == v1::CUS_PRUN;
  if (published && spec.source() == v1::BLEND) {
    return NotHonoured("spec.source", "BLEND has weights, which CUS_PRUN has not");
  }
  if (published && spec.general_weight() != 0) {
    return NotHonoured("spec.general_weight", "CUS_PRUN has no weights");
  }
  const bool compensated =
      spec.compensation() != v1::COMPENSATION_UNSPECIFIED && spec.compensation() != v1::NONE;
  if (published && compensated) {
    return NotHonoured("spec.compensation", "the published CUS_PRUN has none");
  }
  if (!published && spec.quantile() != 0) {
    return NotHonoured("spec.quantile", "it goes with CUS_PRUN alone");
  }
  if (spec.rule() == v1::SECOND_ORDER &&
      (spec.compensation() == v1::NONE || spec.compensation() == v1::BIAS)) {
    return NotHonoured(
        "spec.compensation",
        StrCat("SECOND_ORDER chooses neurons that the others make up for: ",
               v1::Compensation_Name(spec.compensation()), " goes with RELATIVE_MEAN"));
  }
  for (int i = 0; i < spec.select_size(); ++i) {
    if (spec.select(i).weight() != 0 && (published || spec.source() == v1::CELL)) {
      return NotHonoured(StrCat("spec.select[", i, "].weight"),
                         "weights go with several dimensions, not with CUS_PRUN or CELL");
    }
  }
  return absl::OkStatus();
}

// Values of the API that later versions will honour.
absl::Status CheckHonoured(const v1::ExpertSpec& spec) {
  if (spec.shape() == v1::PER_LAYER) {
    return NotHonoured("spec.shape", v1::Shape_Name(spec.shape()));
  }
  for (int i = 0; i < spec.units_size(); ++i) {
    const std::string path = StrCat("spec.units[", i, "]");
    if (spec.units(i) == v1::UNIT_KIND_UNSPECIFIED) return BadField(path, "is not set");
  }
  for (int i = 0; i < spec.formats_size(); ++i) {
    const std::string path = StrCat("spec.formats[", i, "]");
    if (spec.formats(i) == v1::FORMAT_UNSPECIFIED) return BadField(path, "is not set");
    if (spec.formats(i) != v1::HUGGING_FACE) {
      return NotHonoured(path, v1::Format_Name(spec.formats(i)));
    }
  }
  return absl::OkStatus();
}

RelevanceSource SourceFromProto(v1::Source source) {
  switch (source) {
    case v1::CELL:
      return RelevanceSource::kCell;
    case v1::COMPOSE:
      return RelevanceSource::kCompose;
    case v1::BLEND:
      return RelevanceSource::kBlend;
    default:
      return RelevanceSource::kAuto;
  }
}

// The best quality, unless something else is asked for.
v1::Rule RuleOf(const v1::ExpertSpec& spec) {
  if (spec.rule() != v1::RULE_UNSPECIFIED) return spec.rule();
  const bool by_profiles = spec.compensation() == v1::NONE || spec.compensation() == v1::BIAS;
  return by_profiles ? v1::RELATIVE_MEAN : v1::SECOND_ORDER;
}

Compensation CompensationOf(const v1::ExpertSpec& spec) {
  switch (spec.compensation()) {
    case v1::BIAS:
      return Compensation::kBias;
    case v1::LEAST_SQUARES:
      return Compensation::kLeastSquares;
    case v1::SEQUENTIAL:
      return Compensation::kSequential;
    case v1::COMPENSATION_UNSPECIFIED:
      return RuleOf(spec) == v1::SECOND_ORDER ? Compensation::kLeastSquares : Compensation::kNone;
    default:
      return Compensation::kNone;
  }
}

absl::StatusOr<ViewOptions> ViewFromProto(const v1::ExpertSpec& spec) {
  ViewOptions view;
  if (spec.rule() == v1::PAPER_MEAN) view.statistic = Statistic::kPaper;
  if (spec.rule() == v1::LOG_MEAN) view.statistic = Statistic::kLogRelative;
  if (spec.rule() == v1::RANK_MEAN) view.statistic = Statistic::kRank;
  if (spec.quantile() == 0) return view;
  if (!(spec.quantile() > 0 && spec.quantile() <= 1)) {
    return BadField("spec.quantile", StrCat(spec.quantile(), " is not above 0 and at most 1"));
  }
  view.quantile = spec.quantile();
  return view;
}

absl::StatusOr<double> GeneralWeightFromProto(const v1::ExpertSpec& spec) {
  if (!spec.has_general_weight()) {
    return RuleOf(spec) == v1::SECOND_ORDER ? kSecondOrderGeneralWeight : 0.0;
  }
  if (spec.general_weight() >= 0 && spec.general_weight() <= 100) return spec.general_weight();
  return BadField("spec.general_weight", StrCat(spec.general_weight(), " is not 0 to 100"));
}

absl::StatusOr<int64_t> AlignmentOf(const v1::Target& target) {
  const int32_t degree = target.tensor_parallel_degree() == 0 ? 1 : target.tensor_parallel_degree();
  if (degree < 1 || degree > 64) {
    return BadField("spec.target.tensor_parallel_degree", StrCat(degree, " is not 1 to 64"));
  }
  if (degree > 1 && target.engine() != v1::VLLM) {
    return NotHonoured("spec.target.tensor_parallel_degree",
                       "more than 1 goes with engine VLLM alone");
  }
  switch (target.engine()) {
    case v1::VLLM:
      return int64_t{64} * degree;
    case v1::LLAMA_CPP:
      return 256;
    default:
      return 32;
  }
}

}  // namespace

bool Removes(const v1::ExpertSpec& spec, v1::UnitKind unit) {
  if (spec.units().empty()) return unit == v1::FFN_NEURON;
  return std::find(spec.units().begin(), spec.units().end(), unit) != spec.units().end();
}

absl::StatusOr<ExpertBudget> BudgetFromProto(const v1::Budget& budget, const ExpertRequest& request,
                                             std::string_view path) {
  const auto at = [path](const char* field) { return StrCat(path, ".", field); };
  if (request.attention_channels && budget.size_case() != v1::Budget::kSigma &&
      budget.size_case() != v1::Budget::SIZE_NOT_SET) {
    return NotHonoured(path, "with ATTENTION_CHANNEL in units the budget is a sigma");
  }
  const bool counts_neurons =
      budget.size_case() == v1::Budget::kNeuronRatio || budget.size_case() == v1::Budget::kWidth;
  if (request.kv_head_groups && request.kept_kv_head_groups == 0 && counts_neurons) {
    return BadField(path,
                    "counts neurons, which says nothing of KV head groups: set "
                    "spec.kv_head_groups, or a budget of parameters or bytes");
  }
  switch (budget.size_case()) {
    case v1::Budget::kNeuronRatio:
      RETURN_IF_ERROR(CheckShare(budget.neuron_ratio(), at("neuron_ratio")));
      return Budget(NeuronRatio{budget.neuron_ratio()});
    case v1::Budget::kParameterReduction: {
      const v1::ParameterReduction& reduction = budget.parameter_reduction();
      RETURN_IF_ERROR(CheckShare(reduction.value(), at("parameter_reduction.value")));
      return Budget(ParameterReduction{reduction.value(), reduction.base() == v1::BLOCKS});
    }
    case v1::Budget::kMaxParameters:
      RETURN_IF_ERROR(CheckPositive(budget.max_parameters(), at("max_parameters")));
      return Budget(MaxParameters{budget.max_parameters()});
    case v1::Budget::kMaxBytes:
      RETURN_IF_ERROR(CheckPositive(budget.max_bytes(), at("max_bytes")));
      return Budget(MaxBytes{budget.max_bytes()});
    case v1::Budget::kWidth:
      RETURN_IF_ERROR(CheckPositive(budget.width(), at("width")));
      return Budget(Width{budget.width()});
    case v1::Budget::kSigma:
      if (request.rule != Rule::kCusPrun)
        return NotHonoured(at("sigma"), "sigma goes with CUS_PRUN alone");
      if (!(budget.sigma() > 0 && budget.sigma() <= 1)) {
        return BadField(at("sigma"), StrCat(budget.sigma(), " is not above 0 and at most 1"));
      }
      return Sigma{budget.sigma()};
    case v1::Budget::SIZE_NOT_SET:
      break;
  }
  return BadField(
      path,
      "set exactly one of neuron_ratio, parameter_reduction, max_parameters, max_bytes, "
      "width, sigma");
}

absl::StatusOr<ExpertRequest> RequestFromProto(const v1::ExpertSpec& spec, int64_t max_positions,
                                               bool budget_required) {
  RETURN_IF_ERROR(CheckHonoured(spec));
  RETURN_IF_ERROR(CheckCombination(spec));
  ExpertRequest request;
  ASSIGN_OR_RETURN(request.select, SelectFromProto(spec));
  request.neurons = Removes(spec, v1::FFN_NEURON);
  request.attention_channels = Removes(spec, v1::ATTENTION_CHANNEL);
  request.kv_head_groups = Removes(spec, v1::KV_HEAD_GROUP);
  request.kept_kv_head_groups = spec.kv_head_groups();
  request.vocabulary = Removes(spec, v1::VOCABULARY);
  request.vocabulary_size = spec.vocabulary_size();
  request.rule = spec.rule() == v1::CUS_PRUN ? Rule::kCusPrun : Rule::kMean;
  request.second_order = request.neurons && RuleOf(spec) == v1::SECOND_ORDER;
  if (request.neurons) request.compensation = CompensationOf(spec);
  ASSIGN_OR_RETURN(request.view, ViewFromProto(spec));
  request.shape = spec.shape() == v1::MASKED ? Shape::kMasked : Shape::kUniform;
  if (request.neurons) {
    ASSIGN_OR_RETURN(request.general_weight, GeneralWeightFromProto(spec));
  }
  request.source = SourceFromProto(spec.source());
  if (request.neurons && (spec.has_budget() || budget_required)) {
    ASSIGN_OR_RETURN(request.budget, BudgetFromProto(spec.budget(), request, "spec.budget"));
  }
  ASSIGN_OR_RETURN(request.alignment, AlignmentOf(spec.target()));
  request.group_target = {
      .shape = request.shape,
      .tensor_parallel_degree = std::max(spec.target().tensor_parallel_degree(), 1)};
  request.max_document_tokens = spec.max_document_tokens() == 0
                                    ? std::min<int64_t>(512, max_positions)
                                    : spec.max_document_tokens();
  RETURN_IF_ERROR(
      CheckDocumentTokens(request.max_document_tokens, max_positions, "spec.max_document_tokens"));
  ASSIGN_OR_RETURN(request.evaluation_corpora,
                   ParseEvaluationCorpora(spec.evaluation_corpora(), "spec.evaluation_corpora"));
  return request;
}

}  // namespace secateur
