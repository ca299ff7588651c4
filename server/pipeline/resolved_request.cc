#include "server/pipeline/resolved_request.h"

namespace secateur {
namespace {

v1::Source SourceToProto(RelevanceSource source) {
  switch (source) {
    case RelevanceSource::kCell:
      return v1::CELL;
    case RelevanceSource::kBlend:
      return v1::BLEND;
    default:
      return v1::COMPOSE;
  }
}

v1::Rule RuleToProto(const ExpertRequest& request) {
  if (request.rule == Rule::kCusPrun) return v1::CUS_PRUN;
  if (request.second_order) return v1::SECOND_ORDER;
  switch (request.view.statistic) {
    case Statistic::kPaper:
      return v1::PAPER_MEAN;
    case Statistic::kLogRelative:
      return v1::LOG_MEAN;
    case Statistic::kRank:
      return v1::RANK_MEAN;
    case Statistic::kRelative:
      break;
  }
  return v1::RELATIVE_MEAN;
}

// What decides which neurons go and how others make up for them.
void AddNeurons(const ExpertRequest& request, const ResolvedBudget& budget, v1::ExpertSpec& spec) {
  if (request.rule != Rule::kCusPrun) spec.set_general_weight(request.general_weight);
  spec.set_rule(RuleToProto(request));
  if (request.rule == Rule::kCusPrun) spec.set_quantile(request.view.quantile);
  if (const auto* width = std::get_if<Width>(&budget)) {
    spec.mutable_budget()->set_width(width->value);
  } else {
    spec.mutable_budget()->set_sigma(std::get<Sigma>(budget).value);
  }
  spec.add_units(v1::FFN_NEURON);
  if (request.attention_channels) spec.add_units(v1::ATTENTION_CHANNEL);
  spec.set_compensation(CompensationToProto(request.compensation));
  spec.set_max_document_tokens(request.max_document_tokens);
}

}  // namespace

v1::Compensation CompensationToProto(Compensation compensation) {
  switch (compensation) {
    case Compensation::kNone:
      return v1::NONE;
    case Compensation::kBias:
      return v1::BIAS;
    case Compensation::kLeastSquares:
      return v1::LEAST_SQUARES;
    case Compensation::kSequential:
      return v1::SEQUENTIAL;
  }
  return v1::COMPENSATION_UNSPECIFIED;
}

v1::ResolvedRequest ResolveRequest(const ExpertRequest& request, const ResolvedSources& sources,
                                   const ResolvedBudget& budget, const Size& size,
                                   int64_t base_groups, const Digest& base) {
  const bool weighted = request.neurons && request.rule == Rule::kMean &&
                        (sources.source != RelevanceSource::kCell || sources.general);
  v1::ResolvedRequest resolved;
  resolved.set_algorithm_version(kAlgorithmVersion);
  resolved.set_base_digest(base.Hex());
  v1::ExpertSpec& spec = *resolved.mutable_spec();
  double weight_sum = 0;
  for (const Selection& selection : request.select) weight_sum += selection.weight;
  for (const Selection& selection : request.select) {
    v1::DimensionSelection& out = *spec.add_select();
    out.set_key(selection.key);
    for (const std::string& value : selection.values) out.add_values(value);
    if (weighted && sources.source != RelevanceSource::kCell) {
      out.set_weight(selection.weight / weight_sum);
    }
  }
  spec.set_source(SourceToProto(sources.source));
  spec.set_shape(request.shape == Shape::kMasked ? v1::MASKED : v1::UNIFORM);
  spec.add_formats(v1::HUGGING_FACE);
  if (request.neurons) AddNeurons(request, budget, spec);
  if (size.kv_head_groups < base_groups) {
    spec.add_units(v1::KV_HEAD_GROUP);
    spec.set_kv_head_groups(size.kv_head_groups);
  }
  if (request.vocabulary) {
    spec.add_units(v1::VOCABULARY);
    spec.set_vocabulary_size(size.vocabulary);
  }
  for (const std::string& id : request.evaluation_corpora) {
    spec.add_evaluation_corpora("corpora/" + id);
  }
  for (const ResolvedView& view : sources.views) {
    v1::ResolvedView& out = *resolved.add_views();
    for (const CorpusInfo& corpus : view.corpora) out.add_corpora(corpus.digest.Hex());
    if (weighted) out.set_weight(view.weight);
  }
  return resolved;
}

}  // namespace secateur
