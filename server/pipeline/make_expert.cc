#include "server/pipeline/make_expert.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_join.h"
#include "server/artifact/manifest.h"
#include "server/artifact/model_card.h"
#include "server/base/crash_point.h"
#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/corpus/packing.h"
#include "server/evaluate/verify.h"
#include "server/model/weights.h"
#include "server/pipeline/compensate_expert.h"
#include "server/pipeline/evaluate_expert.h"
#include "server/pipeline/plan_convergence.h"
#include "server/pipeline/size_proto.h"
#include "server/pipeline/smoke_check.h"
#include "server/storage/local_copy.h"

namespace secateur {
namespace {

constexpr int64_t kVerifyTokens = 256;
constexpr int64_t kCheckedDocuments = 64;  // of each corpus, by the trimmed tokenizer

// One build: its inputs, and the manifest as it comes together.
class ExpertBuilder {
 public:
  ExpertBuilder(ResidentModel& model, const ExpertRequest& request, const PlannedExpert& planned,
                const ComposedRequest& composed, const BuildOptions& options,
                const SingleFlight::Hold& hold, const Stores& stores, RunContext& context)
      : model_(model),
        request_(request),
        planned_(planned),
        composed_(composed),
        options_(options),
        hold_(hold),
        stores_(stores),
        context_(context) {}

  // Writes all files but the manifest, whose text it returns.
  absl::StatusOr<std::string> Build(const std::string& prefix) {
    CrashPoint("expert.before_files");
    if (SeededBug("manifest_first")) {
      RETURN_IF_ERROR(stores_.blobs.Put(prefix + "secateur.json", "{}").status());
    }
    RETURN_IF_ERROR(CompensateIfAsked());
    RETURN_IF_ERROR(TrimIfAsked());
    ShowStep(1);
    RETURN_IF_ERROR(WriteModelFiles(prefix));
    ShowStep(2);
    RETURN_IF_ERROR(Check(prefix));
    ShowStep(3);
    RETURN_IF_ERROR(CheckGate(options_.gate, manifest_.evaluations()));
    RETURN_IF_ERROR(Add(PutFile("README.md", ModelCardText(Card()), stores_.blobs, prefix)));
    RETURN_IF_ERROR(FillManifest());
    ASSIGN_OR_RETURN(std::string text, ManifestText(manifest_));
    RETURN_IF_ERROR(context_.CheckCancelled());
    return text;
  }

 private:
  // What those see who asked for the same.
  void ShowStep(int64_t done) const { hold_.Report({"build", done, 4, "steps"}); }

  absl::Status Add(const absl::StatusOr<ArtifactFile>& file) {
    if (!file.ok()) return file.status();
    files_.push_back(*file);
    stores_.metrics.expert_bytes_written.Increment(static_cast<double>(file->size));
    return absl::OkStatus();
  }

  absl::Status CompensateIfAsked() {
    if (request_.compensation == Compensation::kNone) return absl::OkStatus();
    ASSIGN_OR_RETURN(compensated_,
                     CompensateExpert(model_, request_, composed_, planned_, stores_, context_));
    *manifest_.mutable_compensation() = compensated_->result;
    if (request_.compensation == Compensation::kBias && compensated_->cut.replaced == nullptr) {
      // The biases that were planned do not come.
      size_ = SizeAtWidth(model_.config(), size_.width, StoredItemSize(model_.folder()),
                          {.vocabulary = size_.vocabulary});
    }
    return absl::OkStatus();
  }

  absl::Status TrimIfAsked() {
    if (composed_.vocabulary != nullptr) {
      *manifest_.mutable_vocabulary() = ToProto(*composed_.vocabulary, planned_);
    }
    if (!planned_.kept) return absl::OkStatus();
    ASSIGN_OR_RETURN(trimmer_, model_.vocabulary().Trimmer());
    ASSIGN_OR_RETURN(trimmed_, trimmer_->Trim(*planned_.kept));
    return absl::OkStatus();
  }

  // Compensation may choose other neurons than were planned; the vocabulary is its own matter.
  Mask mask() const {
    Mask mask = compensated_ ? compensated_->cut.mask : planned_.mask;
    mask.vocabulary = planned_.mask.vocabulary;
    return mask;
  }
  Cut cut() const {
    return {mask_, request_.shape, compensated_ ? compensated_->cut.replaced.get() : nullptr};
  }

  // What the expert's config.json is to say.
  absl::StatusOr<nlohmann::ordered_json> MakeConfig() const {
    const ModelFolder& base = model_.folder();
    ExpertShape shape = {
        .width = request_.shape == Shape::kMasked ? base.config().intermediate_size : size_.width,
        .ffn_bias = WithAddedTensors(base.config(), cut()).mlp_bias};
    const AttentionHeads heads = HeadsOf(base.config(), cut());
    if (heads != HeadsOf(base.config())) shape.heads = heads;
    if (!trimmed_) return ExpertConfigJson(base.config_json(), shape);
    shape.vocabulary = planned_.kept->rows;
    nlohmann::ordered_json config = ExpertConfigJson(base.config_json(), shape);
    RETURN_IF_ERROR(trimmer_->Renumber(config, *planned_.kept));
    return config;
  }

  absl::Status WriteModelFiles(const std::string& prefix) {
    const ModelFolder& base = model_.folder();
    mask_ = mask();
    ASSIGN_OR_RETURN(config_, MakeConfig());
    ASSIGN_OR_RETURN(const auto source, MakeSlicedSource(base.config(), base.tensors(), cut()));
    ASSIGN_OR_RETURN(const std::vector<ArtifactFile> weights,
                     WriteWeights(*source, stores_.blobs, prefix,
                                  {.max_shard_bytes = options_.max_shard_bytes}, context_));
    for (const ArtifactFile& file : weights) RETURN_IF_ERROR(Add(file));
    RETURN_IF_ERROR(Add(PutFile("config.json", ConfigText(config_), stores_.blobs, prefix)));
    if (trimmed_) {
      for (const auto& [name, bytes] : trimmed_->files) {
        RETURN_IF_ERROR(Add(PutFile(name, bytes, stores_.blobs, prefix)));
      }
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> carried, CarriedFiles(base.path()));
    for (const std::string& name : carried) {
      const bool replaced =
          trimmed_ && (trimmed_->files.contains(name) || VocabularyTrimmer::IsLeftOut(name));
      if (replaced) continue;
      RETURN_IF_ERROR(
          Add(CopyFile(base.path() + "/" + name, name, stores_.blobs, prefix, context_)));
    }
    return absl::OkStatus();
  }

  // Reads the files back as any reader would and compares them with the reference.
  absl::Status Check(const std::string& prefix) {
    ASSIGN_OR_RETURN(const LocalCopy local, LocalCopy::Of(stores_.blobs, prefix, context_));
    ASSIGN_OR_RETURN(const auto expert, OpenedExpert::Open(model_, local.path()));
    RETURN_IF_ERROR(CheckTokenizer(*expert));
    ASSIGN_OR_RETURN(PackedBatch sample, Sample(*expert));
    Verification verification;
    RETURN_IF_ERROR(model_.lane().Run(context_, [&] {
      ASSIGN_OR_RETURN(verification, VerifyExpert(model_.transformer(), cut(), expert->folder(),
                                                  sample, {.config = &config_}, context_));
      return absl::OkStatus();
    }));
    v1::VerificationResult& result = *manifest_.mutable_verification();
    result.set_token_count(verification.tokens);
    result.set_max_layer_error(verification.max_layer_error);
    result.set_max_logit_error(verification.max_logit_error);
    if (trimmed_) {
      for (int32_t& id : sample.ids) id = planned_.kept->ids[static_cast<size_t>(id)];
    }
    ASSIGN_OR_RETURN(const SmokeResult smoke,
                     SmokeCheck(model_, *expert, composed_.sources.corpora[0].id(), sample,
                                verification.expert_nats_per_token, stores_, context_));
    result.set_perplexity_ratio(smoke.perplexity_ratio);
    result.set_generated_token_count(smoke.generated_tokens);
    result.set_base_repetition_rate(smoke.base_repetition_rate);
    result.set_expert_repetition_rate(smoke.expert_repetition_rate);
    return Evaluate(*expert);
  }

  // The trimmed tokenizer, read back, on the beginning of each corpus that it was trimmed to.
  absl::Status CheckTokenizer(const OpenedExpert& expert) {
    if (!trimmed_) return absl::OkStatus();
    for (const CorpusInfo& corpus : composed_.sources.corpora) {
      int64_t left = kCheckedDocuments;
      const absl::Status checked = stores_.corpora.ForEachDocument(
          corpus.id(), [&](const Document& document) -> absl::Status {
            RETURN_IF_ERROR(context_.CheckCancelled());
            if (left-- == 0) return absl::OutOfRangeError("enough");
            return trimmer_->CheckText(document.text, *planned_.kept, expert.tokenizer());
          });
      if (!checked.ok() && left >= 0) return checked;
    }
    return absl::OkStatus();
  }

  // The first tokens of the first corpus that the mask came from, as the expert cuts it.
  absl::StatusOr<PackedBatch> Sample(const OpenedExpert& expert) {
    PackedBatch batch;
    Packer packer(expert.tokenizer(), expert.folder().config().first_token_id,
                  {.max_document_tokens = kVerifyTokens, .block_tokens = kVerifyTokens},
                  [&batch](const TokenBlock& block) {
                    if (batch.ids.empty()) batch = {.ids = block.ids, .offsets = block.offsets};
                    return absl::OkStatus();
                  });
    absl::Status done = stores_.corpora.ForEachDocument(
        composed_.sources.corpora[0].id(), [&](const Document& document) -> absl::Status {
          RETURN_IF_ERROR(packer.Add(document));
          return batch.ids.empty() ? absl::OkStatus() : absl::OutOfRangeError("enough");
        });
    if (!done.ok() && batch.ids.empty()) return done;
    RETURN_IF_ERROR(packer.Finish());
    return batch;
  }

  absl::Status Evaluate(const OpenedExpert& expert) {
    EvaluationRequest request;
    for (const std::string& name : planned_.resolved.spec().evaluation_corpora()) {
      request.corpora.push_back(name.substr(name.find('/') + 1));
    }
    ASSIGN_OR_RETURN(request.calibration, CalibrationOf(planned_.resolved));
    ASSIGN_OR_RETURN(const std::vector<v1::EvaluationResult> results,
                     EvaluateOpened(model_, expert, request, stores_, context_));
    manifest_.mutable_evaluations()->Add(results.begin(), results.end());
    return absl::OkStatus();
  }

  Compensation Chosen() const {
    return compensated_ ? compensated_->cut.chosen.compensation : Compensation::kNone;
  }

  // Where plain pruning does better than what second order and least squares make, relevance alone
  // chose what stays.
  v1::Rule RuleThatChose() const {
    const v1::Rule asked = planned_.resolved.spec().rule();
    return asked == v1::SECOND_ORDER && Chosen() == Compensation::kNone ? v1::RELATIVE_MEAN : asked;
  }

  ModelCard Card() const {
    const Size base = BaseSize(model_);
    ModelCard card{.title = "",
                   .base_model = model_.name(),
                   .base_digest = planned_.resolved.base_digest(),
                   .license = ReadBaseLicense(model_.folder().path()),
                   .selections = {},
                   .rule = request_.neurons ? v1::Rule_Name(RuleThatChose()) : "",
                   .compensated = Chosen() == Compensation::kLeastSquares ||
                                  Chosen() == Compensation::kSequential,
                   .biased = Chosen() == Compensation::kBias,
                   .unjudged = Chosen() != Compensation::kNone &&
                               manifest_.compensation().held_out_token_count() == 0,
                   .attention_channels = request_.attention_channels,
                   .base_kv_head_groups = base.kv_head_groups,
                   .expert_kv_head_groups = size_.kv_head_groups,
                   .masked = request_.shape == Shape::kMasked,
                   .layers = model_.config().num_layers,
                   .base_width = base.width,
                   .expert_width = size_.width,
                   .base_vocabulary = base.vocabulary,
                   .expert_vocabulary = size_.vocabulary,
                   .base_parameters = base.parameters,
                   .expert_parameters = size_.parameters,
                   .evaluations = {},
                   .perplexity_ratio = manifest_.verification().perplexity_ratio(),
                   .base_repetition = manifest_.verification().base_repetition_rate(),
                   .expert_repetition = manifest_.verification().expert_repetition_rate()};
    for (const v1::DimensionSelection& select : planned_.resolved.spec().select()) {
      card.selections.push_back({select.key(), {select.values().begin(), select.values().end()}});
    }
    for (const v1::EvaluationResult& result : manifest_.evaluations()) {
      std::vector<std::string> labels;
      for (const auto& [key, value] : result.labels()) labels.push_back(StrCat(key, "=", value));
      std::sort(labels.begin(), labels.end());
      card.evaluations.push_back(
          {labels.empty() ? result.corpus() : absl::StrJoin(labels, ", "), result.document_count(),
           result.text_bytes(), result.base_bits_per_byte(), result.expert_bits_per_byte(),
           result.choice_count(), result.base_accuracy(), result.expert_accuracy(),
           result.accuracy_difference_low(), result.accuracy_difference_high(),
           result.token_count(), result.expert_token_count(),
           result.has_overlap() ? std::optional(result.overlap()) : std::nullopt});
    }
    return card;
  }

  absl::Status FillManifest() {
    manifest_.set_format_version(kManifestFormatVersion);
    *manifest_.mutable_request() = planned_.resolved;
    manifest_.set_model(model_.name());
    *manifest_.mutable_size() = ToProto(size_, model_.folder());
    *manifest_.mutable_base_size() = ToProto(BaseSize(model_), model_.folder());
    manifest_.set_sigma(planned_.sigma);
    manifest_.set_mask_digest(mask_.digest().Hex());
    if (!mask_.attention.empty()) {
      *manifest_.mutable_attention() = RemovedAttention(mask_, model_.config());
    }
    for (const ProfileInfo& profile : composed_.profiles) {
      v1::UsedProfile& used = *manifest_.add_profiles();
      used.set_corpus_digest(profile.key.corpus_digest.Hex());
      used.set_digest(profile.content.Hex());
    }
    std::sort(files_.begin(), files_.end(),
              [](const ArtifactFile& a, const ArtifactFile& b) { return a.name < b.name; });
    for (const ArtifactFile& file : files_) {
      v1::ExpertFile& out = *manifest_.add_files();
      out.set_name(file.name);
      out.set_size_bytes(file.size);
      out.set_sha256(file.digest.Hex());
    }
    manifest_.mutable_protected_neuron_counts()->Add(planned_.protected_counts.begin(),
                                                     planned_.protected_counts.end());
    ASSIGN_OR_RETURN(const auto convergence, PlanConvergence(composed_).At(planned_));
    if (convergence) *manifest_.mutable_convergence() = *convergence;
    return absl::OkStatus();
  }

  ResidentModel& model_;
  const ExpertRequest& request_;
  const PlannedExpert& planned_;
  Size size_ = planned_.size;
  const ComposedRequest& composed_;
  const BuildOptions& options_;
  const SingleFlight::Hold& hold_;
  const Stores stores_;
  RunContext& context_;
  std::optional<CompensatedExpert> compensated_;
  std::shared_ptr<const VocabularyTrimmer> trimmer_;
  std::optional<TrimmedVocabulary> trimmed_;
  Mask mask_;                      // of what is written
  nlohmann::ordered_json config_;  // config.json
  std::vector<ArtifactFile> files_;
  v1::Manifest manifest_;
};

}  // namespace

absl::StatusOr<StoredExpert> MakeExpert(ResidentModel& model, const ExpertRequest& request,
                                        const PlannedExpert& planned,
                                        const ComposedRequest& composed,
                                        const BuildOptions& options, const SingleFlight::Hold& hold,
                                        const Stores& stores, RunContext& context) {
  const std::string prefix = stores.experts.NewPrefix(planned.expert_id);
  auto discard = absl::MakeCleanup([&] { stores.experts.Discard(prefix); });
  ExpertBuilder builder(model, request, planned, composed, options, hold, stores, context);
  ASSIGN_OR_RETURN(const std::string manifest, builder.Build(prefix));
  std::move(discard).Cancel();  // Publish knows what is left to discard
  context.Report({"publish", 0, 1, "files"});
  CrashPoint("expert.before_manifest");
  ASSIGN_OR_RETURN(StoredExpert expert,
                   stores.experts.Publish(planned.expert_id, prefix, manifest, options.lifetime));
  CrashPoint("expert.after_manifest");
  Log(LogLevel::kInfo, "expert published",
      {{"expert", expert.id},
       {"model", model.name()},
       {"width", planned.size.width},
       {"vocabulary", planned.size.vocabulary},
       {"bytes", expert.bytes()}});
  return expert;
}

}  // namespace secateur
