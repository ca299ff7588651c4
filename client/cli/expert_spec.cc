#include "client/cli/expert_spec.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/parse.h"

namespace secateur::cli {
namespace {

void AddSizeOptions(CLI::App& command, SpecOptions& options) {
  AddRepeated(command, "--remove", options.remove, "Share of FFN neurons to remove: 35%");
  AddRepeated(command, "--remove-parameters", options.remove_parameters,
              "Share of parameters to remove: 20%");
  command.add_option("--of", options.of,
                     "What --remove-parameters is a share of: total (default) or blocks");
  AddRepeated(command, "--max-parameters", options.max_parameters,
              "At most this many parameters: 100M");
  AddRepeated(command, "--max-bytes", options.max_bytes, "At most this many bytes: 250MiB");
  command.add_option("--width", options.widths, "FFN neurons that each layer keeps: 1024")
      ->allow_extra_args(false);
  AddRepeated(command, "--sigma", options.sigmas,
              "Cus-Prun alone: share of each layer that counts as irrelevant: 0.9");
  command.add_flag(
      "--attention", options.attention,
      "Cus-Prun alone, with --sigma and --shape masked: channels of attention as well");
  command.add_option("--kv-head-groups", options.kv_head_groups,
                     "KV head groups as well: how many each layer keeps, or auto: whatever number "
                     "removes least relevance within a size in parameters or bytes");
  command.add_flag("--trim-vocabulary", options.trim_vocabulary,
                   "Remove tokens that the text does not need; without a size above, they alone");
  command.add_option("--vocabulary-size", options.vocabulary_size,
                     "Trim the vocabulary to this many rows (default: what held-out text needs)");
}

// Adds `value` to the dimension `key`, which is made if it is new.
v1::DimensionSelection& DimensionOf(v1::ExpertSpec& spec, const std::string& key) {
  for (v1::DimensionSelection& dimension : *spec.mutable_select()) {
    if (dimension.key() == key) return dimension;
  }
  v1::DimensionSelection& dimension = *spec.add_select();
  dimension.set_key(key);
  return dimension;
}

absl::Status AddSelection(const SpecOptions& options, v1::ExpertSpec& spec) {
  for (const auto& [key, values] :
       {std::pair("language", &options.languages), std::pair("domain", &options.domains),
        std::pair("task", &options.tasks)}) {
    for (const std::string& value : *values) DimensionOf(spec, key).add_values(value);
  }
  for (const std::string& text : options.select) {
    const auto pair = ParseKeyValue("--select", text);
    if (!pair.ok()) return pair.status();
    DimensionOf(spec, pair->first).add_values(pair->second);
  }
  if (spec.select().empty()) {
    return absl::InvalidArgumentError(
        "say what the expert is for: --language, --domain, --task or --select KEY=VALUE");
  }
  return absl::OkStatus();
}

absl::Status AddWeights(const SpecOptions& options, v1::ExpertSpec& spec) {
  const auto weights = ParseLabels("--weight", options.weights);
  if (!weights.ok()) return weights.status();
  for (const auto& [key, text] : *weights) {
    const auto dimension = std::find_if(
        spec.mutable_select()->begin(), spec.mutable_select()->end(),
        [&name = key](const v1::DimensionSelection& one) { return one.key() == name; });
    if (dimension == spec.mutable_select()->end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--weight: no dimension \"", key, "\" is selected"));
    }
    double weight = 0;
    if (!absl::SimpleAtod(text, &weight) || !(weight > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--weight: \"", text, "\" is not a number above 0"));
    }
    dimension->set_weight(weight);
  }
  return absl::OkStatus();
}

// Sets an enum field from the option's text; the zero value where that is empty.
template <class Enum, class Set>
absl::Status SetEnum(const std::string& option, const std::string& text,
                     const google::protobuf::EnumDescriptor& descriptor, const Set& set) {
  const auto value = ParseEnum(option, text, descriptor);
  if (!value.ok()) return value.status();
  set(static_cast<Enum>(*value));
  return absl::OkStatus();
}

absl::Status AddTarget(const SpecOptions& options, v1::ExpertSpec& spec) {
  return SetEnum<v1::Engine>(
      "--target", options.target, *v1::Engine_descriptor(), [&](v1::Engine engine) {
        if (engine == 0 && options.tensor_parallel == 0) return;
        spec.mutable_target()->set_engine(engine);
        spec.mutable_target()->set_tensor_parallel_degree(options.tensor_parallel);
      });
}

absl::Status AddGeneralWeight(const SpecOptions& options, v1::ExpertSpec& spec) {
  if (options.general_weight.empty()) return absl::OkStatus();
  double weight = 0;
  if (!absl::SimpleAtod(options.general_weight, &weight) || !(weight >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("--general-weight: \"", options.general_weight,
                                                   "\" is not a number of at least 0"));
  }
  spec.set_general_weight(weight);
  return absl::OkStatus();
}

absl::Status AddQuantile(const SpecOptions& options, v1::ExpertSpec& spec) {
  if (options.quantile.empty()) return absl::OkStatus();
  const auto quantile = ParseShare("--quantile", options.quantile);
  if (quantile.ok()) spec.set_quantile(*quantile);
  return quantile.status();
}

absl::Status AddChoices(const SpecOptions& options, v1::ExpertSpec& spec) {
  for (const absl::Status& status :
       {SetEnum<v1::Rule>("--rule", options.rule, *v1::Rule_descriptor(),
                          [&](v1::Rule rule) { spec.set_rule(rule); }),
        SetEnum<v1::Source>("--source", options.source, *v1::Source_descriptor(),
                            [&](v1::Source source) { spec.set_source(source); }),
        SetEnum<v1::Shape>("--shape", options.shape, *v1::Shape_descriptor(),
                           [&](v1::Shape shape) { spec.set_shape(shape); }),
        SetEnum<v1::Compensation>("--compensation", options.compensation,
                                  *v1::Compensation_descriptor(),
                                  [&](v1::Compensation c) { spec.set_compensation(c); }),
        AddTarget(options, spec), AddGeneralWeight(options, spec), AddQuantile(options, spec)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool TrimsVocabulary(const SpecOptions& options) {
  return options.trim_vocabulary || options.vocabulary_size != 0;
}

bool RemovesNeurons(const SpecOptions& options) {
  return !options.remove.empty() || !options.remove_parameters.empty() ||
         !options.max_parameters.empty() || !options.max_bytes.empty() || !options.widths.empty() ||
         !options.sigmas.empty();
}

absl::Status AddKvHeadGroups(const SpecOptions& options, v1::ExpertSpec& spec) {
  if (options.kv_head_groups.empty()) return absl::OkStatus();
  spec.add_units(v1::KV_HEAD_GROUP);
  if (options.kv_head_groups == "auto") return absl::OkStatus();
  int64_t groups = 0;
  if (!absl::SimpleAtoi(options.kv_head_groups, &groups) || groups < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--kv-head-groups: \"", options.kv_head_groups,
                                                   "\" is neither a number above 0 nor auto"));
  }
  spec.set_kv_head_groups(groups);
  return absl::OkStatus();
}

absl::Status AddUnits(const SpecOptions& options, v1::ExpertSpec& spec) {
  const bool attention = options.attention || !options.kv_head_groups.empty();
  if (!attention && !TrimsVocabulary(options)) return absl::OkStatus();  // the default
  if (RemovesNeurons(options)) spec.add_units(v1::FFN_NEURON);
  if (options.attention) spec.add_units(v1::ATTENTION_CHANNEL);
  if (TrimsVocabulary(options)) {
    spec.add_units(v1::VOCABULARY);
    spec.set_vocabulary_size(options.vocabulary_size);
  }
  return AddKvHeadGroups(options, spec);
}

// Parses every text and makes a budget of each.
template <class Parse, class Set>
absl::Status AddBudgets(const std::string& option, const std::vector<std::string>& texts,
                        const Parse& parse, const Set& set, std::vector<v1::Budget>& budgets) {
  for (const std::string& text : texts) {
    const auto value = parse(option, text);
    if (!value.ok()) return value.status();
    set(*value, budgets.emplace_back());
  }
  return absl::OkStatus();
}

absl::Status AddShares(const SpecOptions& options, std::vector<v1::Budget>& budgets) {
  const auto base = ParseEnum("--of", options.of, *v1::ParameterBase_descriptor());
  if (!base.ok()) return base.status();
  if (*base != 0 && options.remove_parameters.empty()) {
    return absl::InvalidArgumentError(
        "--of says what --remove-parameters is a share of; give both");
  }
  absl::Status status = AddBudgets(
      "--remove", options.remove, ParseShare,
      [](double share, v1::Budget& budget) { budget.set_neuron_ratio(share); }, budgets);
  if (!status.ok()) return status;
  return AddBudgets(
      "--remove-parameters", options.remove_parameters, ParseShare,
      [&base](double share, v1::Budget& budget) {
        budget.mutable_parameter_reduction()->set_value(share);
        budget.mutable_parameter_reduction()->set_base(static_cast<v1::ParameterBase>(*base));
      },
      budgets);
}

absl::Status AddLimits(const SpecOptions& options, std::vector<v1::Budget>& budgets) {
  absl::Status status = AddBudgets(
      "--max-parameters", options.max_parameters, ParseCount,
      [](int64_t count, v1::Budget& budget) { budget.set_max_parameters(count); }, budgets);
  if (!status.ok()) return status;
  return AddBudgets(
      "--max-bytes", options.max_bytes, ParseBytes,
      [](int64_t bytes, v1::Budget& budget) { budget.set_max_bytes(bytes); }, budgets);
}

}  // namespace

void AddSpecOptions(CLI::App& command, SpecOptions& options) {
  AddModelOption(command, options.model);
  AddRepeated(command, "--language", options.languages, "Language of the expert");
  AddRepeated(command, "--domain", options.domains, "Domain of the expert");
  AddRepeated(command, "--task", options.tasks, "Task of the expert");
  AddRepeated(command, "--select", options.select, "Any other label, KEY=VALUE");
  AddRepeated(command, "--weight", options.weights,
              "KEY=NUMBER: weight of a dimension among the others (default 1)");
  AddSizeOptions(command, options);
  command.add_option(
      "--rule", options.rule,
      "second-order (default; best quality, takes a forward pass), relative-mean (at "
      "once, from profiles alone; default with --compensation none or bias), paper-mean, log-mean, "
      "rank-mean (like it, by other scores) or cus-prun (as published)");
  command.add_option("--quantile", options.quantile,
                     "Cus-Prun alone: share of documents in which a neuron must be irrelevant "
                     "(default 100%, as published)");
  command.add_option("--source", options.source, "auto (default), cell, compose or blend");
  command.add_option("--compensation", options.compensation,
                     "none, bias, least-squares (default with second-order) or sequential (layer "
                     "by layer on the pruned prefix; best quality, half as long again)");
  command.add_option("--shape", options.shape,
                     "uniform (default) or masked: the base's shape with zeros");
  command.add_option("--general-weight", options.general_weight,
                     "Weight of general text beside the selection's 1 (default 0.1 with "
                     "second-order, else 0)");
  command.add_option("--target", options.target, "transformers (default), vllm or llama-cpp");
  command.add_option("--tensor-parallel", options.tensor_parallel,
                     "Devices a layer is split over (default 1)");
  command.add_option("--max-document-tokens", options.max_document_tokens,
                     "Tokens of a document that count (server's default 512)");
  AddRepeated(command, "--evaluate", options.evaluation_corpora,
              "Evaluation corpus to measure bits per byte on");
}

absl::StatusOr<v1::ExpertSpec> MakeSpec(const SpecOptions& options) {
  v1::ExpertSpec spec;
  if (absl::Status status = AddSelection(options, spec); !status.ok()) return status;
  if (absl::Status status = AddWeights(options, spec); !status.ok()) return status;
  if (absl::Status status = AddChoices(options, spec); !status.ok()) return status;
  const absl::Status units = AddUnits(options, spec);
  if (!units.ok()) return units;
  spec.set_max_document_tokens(options.max_document_tokens);
  for (const std::string& corpus : options.evaluation_corpora) {
    spec.add_evaluation_corpora(FullName("corpora", corpus));
  }
  return spec;
}

absl::StatusOr<std::vector<v1::Budget>> MakeBudgets(const SpecOptions& options) {
  std::vector<v1::Budget> budgets;
  if (absl::Status status = AddShares(options, budgets); !status.ok()) return status;
  if (absl::Status status = AddLimits(options, budgets); !status.ok()) return status;
  for (const int64_t width : options.widths) budgets.emplace_back().set_width(width);
  absl::Status status = AddBudgets(
      "--sigma", options.sigmas, ParseShare,
      [](double sigma, v1::Budget& budget) { budget.set_sigma(sigma); }, budgets);
  if (!status.ok()) return status;
  if (!budgets.empty() || TrimsVocabulary(options)) return budgets;
  return absl::InvalidArgumentError(
      "say how large the expert may be: --remove 35%, --remove-parameters 20%, --max-parameters "
      "100M, --max-bytes 250MiB, --width 1024, --sigma 0.9 or --trim-vocabulary");
}

}  // namespace secateur::cli
