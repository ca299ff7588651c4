#include "server/pipeline/evaluate_expert.h"

#include <algorithm>
#include <set>
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
  result.set_expert_token_count(expert.text.tokens);
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

absl::Status CheckSameBytes(const CorpusInfo& corpus, const CorpusScores& base,
                            const CorpusScores& expert) {
  if (base.text.bytes == expert.text.bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("a text of corpora/", corpus.id(),
             " takes more tokens of the expert's vocabulary than it has positions: evaluate with "
             "fewer max_document_tokens, or on text of the kind it was made for"));
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

absl::StatusOr<std::vector<std::string>> CalibrationOf(const v1::ResolvedRequest& request) {
  std::set<std::string> digests;
  for (const v1::ResolvedView& view : request.views()) {
    digests.insert(view.corpora().begin(), view.corpora().end());
  }
  std::vector<std::string> ids;
  for (const std::string& hex : digests) {
    ASSIGN_OR_RETURN(const Digest corpus, Digest::FromHex(hex));
    ids.push_back(corpus.Id('c'));
  }
  return ids;
}

absl::StatusOr<std::vector<v1::EvaluationResult>> EvaluateOpened(ResidentModel& base,
                                                                 const OpenedExpert& expert,
                                                                 const EvaluationRequest& request,
                                                                 const Stores& stores,
                                                                 RunContext& context) {
  const LayeredModel models[] = {Resident(base.transformer()), expert.model()};
  const Tokenizer* const tokenizers[] = {&base.tokenizer(), &expert.tokenizer()};
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
      options.cut_by = i == 1 && expert.has_own_vocabulary() ? &base.tokenizer() : nullptr;
      ASSIGN_OR_RETURN(scores[i],
                       EvaluateCorpus(models[i], *tokenizers[i], visit, options, context));
      options.documents_before += corpus.documents;
    }
    RETURN_IF_ERROR(CheckSameBytes(corpus, scores[0], scores[1]));
    ASSIGN_OR_RETURN(const AccuracyComparison accuracy,
                     CompareAccuracy(scores[0].choices, scores[1].choices, context));
    v1::EvaluationResult result = ToProto(corpus, scores[0], scores[1], accuracy);
    if (overlaps) result.set_overlap((*overlaps)[results.size()]);
    results.push_back(std::move(result));
  }
  return results;
}

absl::Status CheckIsBaseOf(const ResidentModel& base, const StoredExpert& expert) {
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  ASSIGN_OR_RETURN(const Digest digest, base.digest());
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
                                                                 const Stores& stores,
                                                                 RunContext& context) {
  RETURN_IF_ERROR(base.WaitForDigest(context));
  RETURN_IF_ERROR(CheckIsBaseOf(base, expert));
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  ASSIGN_OR_RETURN(request.calibration, CalibrationOf(manifest.request()));
  ASSIGN_OR_RETURN(const LocalCopy local, LocalCopy::Of(stores.blobs, expert.prefix, context));
  RETURN_IF_ERROR(CheckFiles(expert, local.path(), context));
  ASSIGN_OR_RETURN(const auto opened, OpenedExpert::Open(base, local.path()));
  return EvaluateOpened(base, *opened, request, stores, context);
}

}  // namespace secateur
