#include "server/pipeline/evaluate_expert.h"

#include <algorithm>
#include <utility>

#include "secateur/v1/manifest.pb.h"
#include "server/artifact/manifest.h"
#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/evaluate/evaluate_corpus.h"
#include "server/pipeline/measure_overlap.h"
#include "server/storage/local_copy.h"

namespace secateur {
namespace {

v1::EvaluationResult ToProto(const CorpusInfo& corpus, const CorpusScores& base,
                             const CorpusScores& expert, const AccuracyComparison& accuracy) {
  v1::EvaluationResult result;
  result.set_corpus("corpora/" + corpus.id());
  result.mutable_labels()->insert(corpus.labels.begin(), corpus.labels.end());
  result.set_document_count(base.text.documents);
  result.set_token_count(base.text.tokens);
  result.set_text_bytes(base.text.bytes);
  result.set_base_bits_per_byte(base.text.value());
  result.set_expert_bits_per_byte(expert.text.value());
  result.set_choice_count(accuracy.count);
  result.set_base_accuracy(accuracy.base);
  result.set_expert_accuracy(accuracy.expert);
  result.set_accuracy_difference_low(accuracy.difference_low);
  result.set_accuracy_difference_high(accuracy.difference_high);
  return result;
}

// Every file that the manifest names, read as it will be used.
absl::Status CheckFiles(const StoredExpert& expert, const std::string& folder,
                        RunContext& context) {
  const int64_t total = expert.bytes() - expert.manifest.size;
  int64_t done = 0;
  for (const ArtifactFile& file : expert.files) {
    ASSIGN_OR_RETURN(const Digest found, Sha256OfFile(StrCat(folder, "/", file.name), context));
    if (found != file.digest) {
      return absl::DataLossError(StrCat(file.name, " of expert ", expert.id, " has SHA-256 ",
                                        found.Hex(), "; its manifest says ", file.digest.Hex(),
                                        ": delete the expert and make it again"));
    }
    done += file.size;
    context.Report({"check", done, total, "bytes"});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<v1::EvaluationResult>> EvaluateFolder(ResidentModel& base,
                                                                 const ModelFolder& folder,
                                                                 const EvaluationRequest& request,
                                                                 Stores stores,
                                                                 RunContext& context) {
  const LayeredModel models[] = {
      Resident(base.transformer()),
      Streamed(folder, base.transformer().outer(), base.transformer().device())};
  EvaluateOptions options;
  options.max_tokens = std::min(request.max_document_tokens, base.config().max_positions) - 1;
  options.score.turn = [&](const std::function<absl::Status()>& work) {
    return base.lane().Run(context, work);
  };
  std::vector<CorpusInfo> corpora;
  for (const std::string& id : request.corpora) {
    ASSIGN_OR_RETURN(corpora.emplace_back(), stores.corpora.Get(id));
    options.documents_total += 2 * corpora.back().documents;
  }
  ASSIGN_OR_RETURN(const auto overlaps,
                   MeasureOverlap(request.corpora, request.calibration, stores.corpora, context));
  std::vector<v1::EvaluationResult> results;
  for (const CorpusInfo& corpus : corpora) {
    const DocumentVisitor visit = [&](const std::function<absl::Status(const Document&)>& to) {
      return stores.corpora.ForEachDocument(corpus.id(), [&](const Document& d) { return to(d); });
    };
    CorpusScores scores[2];
    for (size_t i = 0; i < 2; ++i) {
      ASSIGN_OR_RETURN(scores[i],
                       EvaluateCorpus(models[i], base.tokenizer(), visit, options, context));
      options.documents_before += corpus.documents;
    }
    ASSIGN_OR_RETURN(const AccuracyComparison accuracy,
                     CompareAccuracy(scores[0].choices, scores[1].choices));
    v1::EvaluationResult result = ToProto(corpus, scores[0], scores[1], accuracy);
    if (overlaps) result.set_overlap((*overlaps)[results.size()]);
    results.push_back(std::move(result));
  }
  return results;
}

absl::Status CheckIsBaseOf(const ResidentModel& base, const StoredExpert& expert) {
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  ASSIGN_OR_RETURN(const Digest digest, base.WaitForDigest());
  const std::string& wanted = manifest.request().base_digest();
  if (digest.Hex() == wanted) return absl::OkStatus();
  return WithField(absl::FailedPreconditionError(
                       StrCat("the expert was made of a model with SHA-256 ", wanted, "; models/",
                              base.name(), " is now one with ", digest.Hex(),
                              ": make the expert again, or serve its base under this name")),
                   "name");
}

absl::StatusOr<std::vector<v1::EvaluationResult>> EvaluateExpert(ResidentModel& base,
                                                                 const StoredExpert& expert,
                                                                 EvaluationRequest request,
                                                                 Stores stores,
                                                                 RunContext& context) {
  RETURN_IF_ERROR(CheckIsBaseOf(base, expert));
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  for (const v1::UsedProfile& profile : manifest.profiles()) {
    ASSIGN_OR_RETURN(const Digest corpus, Digest::FromHex(profile.corpus_digest()));
    request.calibration.push_back(corpus.Id('c'));
  }
  ASSIGN_OR_RETURN(const LocalCopy local, LocalCopy::Of(stores.blobs, expert.prefix));
  RETURN_IF_ERROR(CheckFiles(expert, local.path(), context));
  ASSIGN_OR_RETURN(const auto folder, ModelFolder::Open(local.path()));
  return EvaluateFolder(base, *folder, request, stores, context);
}

}  // namespace secateur
