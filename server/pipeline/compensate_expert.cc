#include "server/pipeline/compensate_expert.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/cost.h"
#include "server/pipeline/compensation_text.h"
#include "server/pipeline/resolved_request.h"

namespace secateur {
namespace {

// Everything that a measured text depends on.
absl::StatusOr<std::string> KeyOf(const ResidentModel& model, const ExpertRequest& request,
                                  const ComposedRequest& composed, bool attention) {
  const ResolvedSources& sources = composed.sources;
  ASSIGN_OR_RETURN(const Digest base, model.digest());
  Sha256 hash;
  hash.UpdateField(StrCat(kCompensationVersion, "/", request.second_order, "/", attention, "/",
                          request.max_document_tokens, "/", sources.general));
  hash.UpdateField(base.Hex());
  for (const ResolvedView& view : sources.views) {
    // Every digit: the weights of tokens follow each.
    hash.UpdateField(absl::StrFormat("%.17g/%d", view.weight, view.corpora.size()));
    for (const CorpusInfo& corpus : view.corpora) hash.UpdateField(corpus.digest.Hex());
  }
  for (const std::vector<uint16_t>& channels : composed.order.protected_channels) {
    hash.UpdateField(absl::StrJoin(channels, "/"));
  }
  return hash.Finish().Hex();
}

absl::StatusOr<std::shared_ptr<const MeasuredText>> Measured(ResidentModel& model,
                                                             const ExpertRequest& request,
                                                             const ComposedRequest& composed,
                                                             bool attention, const Stores& stores,
                                                             RunContext& context) {
  ASSIGN_OR_RETURN(const std::string key, KeyOf(model, request, composed, attention));
  ASSIGN_OR_RETURN(const auto hold, stores.single_flight.Acquire(key, context));
  if (auto known = stores.measured.Find(key)) return known;
  ASSIGN_OR_RETURN(CompensationText text,
                   ReadCompensationText(model, request, composed.sources, stores, context));
  const absl::Time start = absl::Now();
  std::shared_ptr<const MeasuredText> measured;
  RETURN_IF_ERROR(model.lane().Run(context, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(
        measured, MeasuredText::Measure(model.transformer(), std::move(text),
                                        {.orders = request.second_order,
                                         .attention = attention,
                                         .protected_channels = composed.order.protected_channels},
                                        context));
    return absl::OkStatus();
  }));
  Log(LogLevel::kInfo, "text measured",
      {{"model", model.name()},
       {"tokens", measured->text().tokens()},
       {"disk_bytes", measured->disk_bytes()},
       {"seconds", absl::ToDoubleSeconds(absl::Now() - start)}});
  return stores.measured.Insert(key, measured, measured->disk_bytes());
}

v1::WidthAllocation ToProto(WidthsBy widths) {
  switch (widths) {
    case WidthsBy::kUniform:
      return v1::SAME_WIDTH;
    case WidthsBy::kCurve:
      return v1::BY_CURVE;
    case WidthsBy::kHalfWay:
      return v1::HALF_WAY;
    case WidthsBy::kGuardedCurve:
      return v1::GUARDED_CURVE;
  }
  return v1::WIDTH_ALLOCATION_UNSPECIFIED;
}

v1::CompensationCandidate ToProto(const CandidateResult& candidate) {
  v1::CompensationCandidate out;
  out.set_compensation(CompensationToProto(candidate.compensation));
  out.set_widths(ToProto(candidate.widths));
  if (candidate.widths == WidthsBy::kGuardedCurve) {
    out.set_guarded_first_layers(candidate.guard.first_layers);
    out.set_guarded_last_layers(candidate.guard.last_layers);
    out.set_tilt(candidate.guard.tilt);
  }
  out.set_held_out_nats_per_token(candidate.held_out_nats);
  return out;
}

int64_t TokensOf(const std::vector<WeightedBatch>& batches) {
  int64_t tokens = 0;
  for (const WeightedBatch& batch : batches) tokens += batch.batch.tokens();
  return tokens;
}

v1::CompensationResult ToProto(const Compensated& cut, const MeasuredText& measured) {
  v1::CompensationResult out;
  *out.mutable_chosen() = ToProto(cut.chosen);
  for (const CandidateResult& candidate : cut.candidates) {
    *out.add_candidates() = ToProto(candidate);
  }
  out.set_base_held_out_nats_per_token(measured.base_held_out_nats());
  out.set_calibration_token_count(TokensOf(measured.text().calibration));
  out.set_held_out_token_count(TokensOf(measured.text().held_out));
  for (const LayerCompensation& layer : cut.layers) {
    v1::LayerCompensation& to = *out.add_layers();
    to.set_width(layer.width);
    to.set_ridge(layer.ridge.value_or(0));
    to.set_plain_error(layer.plain_error);
    to.set_error(layer.error);
    to.set_attention_ridge(layer.attention.ridge.value_or(0));
    to.set_plain_attention_error(layer.attention.plain_error);
    to.set_attention_error(layer.attention.error);
  }
  return out;
}

}  // namespace

v1::CompensationCost CostOfCompensation(const ResidentModel& model, const ExpertRequest& request,
                                        const ComposedRequest& composed,
                                        const PlannedExpert& planned) {
  const int64_t tokens = EstimateCompensationTokens(request, composed.sources);
  const CompensationCost cost = CostOfCompensation(model.config(), tokens, tokens / kHeldOutEvery,
                                                   {.shape = request.shape,
                                                    .compensation = request.compensation,
                                                    .attention = !planned.mask.attention.empty()});
  v1::CompensationCost out;
  out.set_token_count(tokens);
  out.set_memory_bytes(cost.memory_bytes);
  out.set_disk_bytes(cost.disk_bytes);
  return out;
}

absl::StatusOr<CompensatedExpert> CompensateExpert(ResidentModel& model,
                                                   const ExpertRequest& request,
                                                   const ComposedRequest& composed,
                                                   const PlannedExpert& planned,
                                                   const Stores& stores, RunContext& context) {
  const bool attention = !planned.mask.attention.empty();
  ASSIGN_OR_RETURN(const auto measured,
                   Measured(model, request, composed, attention, stores, context));
  const CompensationOptions options{
      .plain = &planned.mask, .shape = request.shape, .compensation = request.compensation};
  CompensatedExpert expert;
  RETURN_IF_ERROR(model.lane().Run(context, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(expert.cut, Compensate(model.transformer(), *measured, options, context));
    return absl::OkStatus();
  }));
  expert.result = ToProto(expert.cut, *measured);
  return expert;
}

}  // namespace secateur
