#include "server/service/convert.h"

#include <algorithm>

#include "google/rpc/status.pb.h"
#include "server/artifact/manifest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/size_proto.h"
#include "server/service/grpc_status.h"
#include "server/service/names.h"

namespace secateur {
namespace {

v1::OperationMetadata::State StateOf(const Operation& operation) {
  switch (operation.state) {
    case OperationState::kQueued:
      return v1::OperationMetadata::QUEUED;
    case OperationState::kRunning:
      return operation.cancel_requested ? v1::OperationMetadata::CANCELLING
                                        : v1::OperationMetadata::RUNNING;
    case OperationState::kSucceeded:
      return v1::OperationMetadata::SUCCEEDED;
    case OperationState::kFailed:
      return v1::OperationMetadata::FAILED;
    case OperationState::kCancelled:
      return v1::OperationMetadata::CANCELLED;
  }
  return v1::OperationMetadata::STATE_UNSPECIFIED;
}

v1::OperationProgress ProgressOf(const OperationProgress& progress) {
  v1::OperationProgress out;
  out.set_phase(progress.phase);
  out.set_done(progress.done);
  out.set_total(progress.total);
  out.set_unit(progress.unit);
  out.set_rate(progress.rate);
  out.set_tokens_per_second(progress.tokens_per_second);
  if (progress.eta != absl::InfiniteDuration() && progress.eta >= absl::ZeroDuration()) {
    const int64_t nanos = absl::ToInt64Nanoseconds(progress.eta);
    out.mutable_eta()->set_seconds(nanos / 1'000'000'000);
    out.mutable_eta()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
  return out;
}

void AddEngine(v1::Plan& plan, v1::Engine engine, int64_t alignment) {
  v1::EngineSupport& support = *plan.add_engines();
  support.set_engine(engine);
  support.set_loads(plan.size().width() % alignment == 0);
  if (!support.loads()) {
    support.set_reason(StrCat("width ", plan.size().width(), " is not a multiple of ", alignment,
                              ": plan with this engine as target"));
  }
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(
      static_cast<int32_t>((time - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1)));
  return out;
}

std::string EtagOf(const CorpusInfo& corpus) { return StrCat(corpus.generation); }

v1::Model ToProto(const ResidentModels::State& state) {
  const ModelConfig& config = state.folder->config();
  v1::Model out;
  out.set_name(ModelName(state.name));
  out.set_family(config.model_type);
  out.set_state(state.model ? v1::Model::READY : v1::Model::LOADING);
  out.set_parameter_count(CountParameters(config));
  out.set_block_parameter_count(CountBlockParameters(config));
  out.set_layer_count(config.num_layers);
  out.set_hidden_size(config.hidden_size);
  out.set_intermediate_size(config.intermediate_size);
  out.set_vocabulary_size(config.vocabulary_size);
  out.set_attention_head_count(config.num_heads);
  out.set_kv_head_count(config.num_kv_heads);
  if (state.model) {
    if (const auto digest = state.model->digest(); digest.ok()) out.set_digest(digest->Hex());
    out.set_device(state.model->transformer().device().name);
    out.set_compute_type(state.model->compute_type());
    out.set_resident_bytes(state.model->transformer().resident_bytes());
  }
  return out;
}

v1::Corpus ToProto(const CorpusInfo& corpus) {
  v1::Corpus out;
  out.set_name(CorpusName(corpus.id()));
  out.set_digest(corpus.digest.Hex());
  out.mutable_labels()->insert(corpus.labels.begin(), corpus.labels.end());
  out.set_purpose(corpus.purpose == CorpusPurpose::kEvaluation ? v1::EVALUATION : v1::CALIBRATION);
  out.set_display_name(corpus.display_name);
  out.set_document_count(corpus.documents);
  out.set_text_bytes(corpus.bytes);
  out.set_dropped_field_count(corpus.dropped_fields);
  *out.mutable_create_time() = ToTimestamp(corpus.create_time);
  out.set_etag(EtagOf(corpus));
  return out;
}

v1::Profile ToProto(const ProfileInfo& profile) {
  v1::Profile out;
  out.set_name(ProfileName(profile.key.model, profile.id()));
  out.set_corpus(CorpusName(profile.key.corpus_digest.Id('c')));
  out.set_digest(profile.content.Hex());
  out.set_document_count(profile.documents);
  out.set_token_count(profile.tokens);
  out.set_dropped_token_count(profile.dropped_tokens);
  out.set_max_document_tokens(profile.key.max_document_tokens);
  out.set_stored_bytes(profile.bytes);
  out.set_attention(profile.key.attention);
  *out.mutable_create_time() = ToTimestamp(profile.create_time);
  return out;
}

absl::StatusOr<v1::Expert> ToProto(const StoredExpert& expert, const std::string& store_uri) {
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  v1::Expert out;
  out.set_name(ExpertName(manifest.model(), expert.id));
  *out.mutable_spec() = manifest.request().spec();
  *out.mutable_size() = manifest.size();
  *out.mutable_base_size() = manifest.base_size();
  out.set_source(manifest.request().spec().source());
  out.set_sigma(manifest.sigma());
  out.set_mask_digest(manifest.mask_digest());
  *out.mutable_verification() = manifest.verification();
  *out.mutable_evaluations() = manifest.evaluations();
  if (manifest.has_compensation()) *out.mutable_compensation() = manifest.compensation();
  if (manifest.has_attention()) *out.mutable_attention() = manifest.attention();
  if (manifest.has_vocabulary()) *out.mutable_vocabulary() = manifest.vocabulary();
  *out.mutable_protected_neuron_counts() = manifest.protected_neuron_counts();
  if (manifest.has_convergence()) *out.mutable_convergence() = manifest.convergence();
  *out.mutable_files() = manifest.files();
  v1::ExpertFile& own = *out.add_files();
  own.set_name(expert.manifest.name);
  own.set_size_bytes(expert.manifest.size);
  own.set_sha256(expert.manifest.digest.Hex());
  out.set_uri(StrCat(store_uri, "/", expert.prefix.substr(0, expert.prefix.size() - 1)));
  *out.mutable_create_time() = ToTimestamp(expert.create_time);
  if (expert.expire_time != absl::InfiniteFuture()) {
    *out.mutable_expire_time() = ToTimestamp(expert.expire_time);
  }
  return out;
}

v1::Expert ToExpert(const PlannedExpert& planned, const ComposedRequest& composed,
                    const ResidentModel& model) {
  v1::Expert out;
  out.set_name(ExpertName(model.name(), planned.expert_id));
  *out.mutable_spec() = planned.resolved.spec();
  *out.mutable_size() = ToProto(planned.size, model.folder());
  *out.mutable_base_size() = ToProto(BaseSize(model), model.folder());
  out.set_source(planned.resolved.spec().source());
  out.set_sigma(planned.sigma);
  if (planned.resolved.spec().rule() != v1::SECOND_ORDER) {
    out.set_mask_digest(planned.mask.digest().Hex());
  }
  if (composed.vocabulary != nullptr) {
    *out.mutable_vocabulary() = ToProto(*composed.vocabulary, planned);
  }
  if (!planned.mask.attention.empty()) {
    *out.mutable_attention() = RemovedAttention(planned.mask, model.config());
  }
  out.mutable_protected_neuron_counts()->Add(planned.protected_counts.begin(),
                                             planned.protected_counts.end());
  return out;
}

v1::Plan ToProto(const PlannedExpert& planned, const ComposedRequest& composed,
                 const ResidentModel& model) {
  v1::Plan out;
  *out.mutable_size() = ToProto(planned.size, model.folder());
  *out.mutable_base_size() = ToProto(BaseSize(model), model.folder());
  out.set_source(planned.resolved.spec().source());
  out.set_source_reason(composed.sources.reason);
  for (const CorpusInfo& corpus : composed.sources.corpora) {
    out.add_corpora(CorpusName(corpus.id()));
  }
  out.set_shared_corpus_count(composed.sources.shared_corpora);
  out.set_document_count(composed.sources.documents);
  out.set_sigma(planned.sigma);
  out.mutable_irrelevant_neuron_counts()->Add(planned.irrelevant_counts.begin(),
                                              planned.irrelevant_counts.end());
  out.mutable_protected_neuron_counts()->Add(planned.protected_counts.begin(),
                                             planned.protected_counts.end());
  if (planned.resolved.spec().rule() != v1::SECOND_ORDER) {
    out.set_mask_digest(planned.mask.digest().Hex());
  }
  AddEngine(out, v1::TRANSFORMERS, 1);
  AddEngine(out, v1::VLLM, 64);
  AddEngine(out, v1::LLAMA_CPP, 32);  // its blocks; K-quants need 256, which a plan can ask for
  if (composed.vocabulary != nullptr) {
    *out.mutable_vocabulary() = ToProto(*composed.vocabulary, planned);
  }
  if (!planned.mask.attention.empty()) {
    *out.mutable_attention() = RemovedAttention(planned.mask, model.config());
  }
  if (planned.kept) {
    v1::EngineSupport& llama = *out.mutable_engines(out.engines_size() - 1);
    llama.set_loads(false);
    llama.set_reason(
        "its converter knows tokenizers by what they make of a text; a trimmed one makes something "
        "else of it");
  }
  out.set_expert(ExpertName(model.name(), planned.expert_id));
  return out;
}

google::longrunning::Operation ToProto(const Operation& operation) {
  v1::OperationMetadata metadata;
  metadata.set_method(operation.request.method);
  metadata.set_target(operation.request.target);
  metadata.set_state(StateOf(operation));
  if (!operation.progress.phase.empty()) {
    *metadata.mutable_progress() = ProgressOf(operation.progress);
  }
  *metadata.mutable_create_time() = ToTimestamp(operation.create_time);
  if (operation.start_time != absl::InfinitePast()) {
    *metadata.mutable_start_time() = ToTimestamp(operation.start_time);
  }
  if (operation.end_time != absl::InfinitePast()) {
    *metadata.mutable_end_time() = ToTimestamp(operation.end_time);
  }
  metadata.set_cancel_requested(operation.cancel_requested);

  google::longrunning::Operation out;
  out.set_name(OperationName(operation.id));
  out.mutable_metadata()->PackFrom(metadata);
  out.set_done(IsDone(operation.state));
  if (operation.state == OperationState::kSucceeded) {
    out.mutable_response()->set_type_url("type.googleapis.com/" + operation.result.type);
    out.mutable_response()->set_value(operation.result.bytes);
  } else if (out.done()) {
    *out.mutable_error() = ToRpcStatus(operation.error);
  }
  return out;
}

}  // namespace secateur
