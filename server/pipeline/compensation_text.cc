#include "server/pipeline/compensation_text.h"

#include <algorithm>
#include <map>
#include <utility>

#include "server/base/status_macros.h"
#include "server/corpus/packing.h"
#include "server/profile/dimension.h"

namespace secateur {
namespace {

constexpr int64_t kBytesPerToken = 3;  // roughly, over languages; only bounds what is read
constexpr double kFirstTokenShare = 1.0 / 200;

// A corpus and the weight that all its tokens share.
struct Part {
  CorpusInfo corpus;
  double weight = 0;
  int64_t max_tokens = 0;  // roughly
};

int64_t EstimatedTokens(const CorpusInfo& corpus, int64_t max_document_tokens) {
  return std::max<int64_t>(
      1, std::min(corpus.bytes / kBytesPerToken, corpus.documents * max_document_tokens));
}

// Each corpus of the views once, with its weight in all of them together.
std::vector<Part> PartsOf(const ResolvedSources& sources, int64_t max_document_tokens) {
  std::map<Digest, Part> parts;
  const size_t selected = sources.views.size() - (sources.general ? 1 : 0);
  double selected_weight = 0;
  for (size_t v = 0; v < selected; ++v) selected_weight += sources.views[v].weight;
  for (size_t v = 0; v < sources.views.size(); ++v) {
    const ResolvedView& view = sources.views[v];
    double documents = 0;
    int64_t tokens = 0;
    const auto counted = [](const CorpusInfo& corpus) {
      return static_cast<double>(std::min(corpus.documents, kCorpusWeightCap));
    };
    for (const CorpusInfo& corpus : view.corpora) {
      documents += counted(corpus);
      tokens += EstimatedTokens(corpus, max_document_tokens);
    }
    const double most = v < selected ? kSelectionTokens * view.weight / selected_weight
                                     : static_cast<double>(kGeneralTokens);
    for (const CorpusInfo& corpus : view.corpora) {
      Part& part = parts.try_emplace(corpus.digest, Part{corpus, 0, 0}).first->second;
      part.weight += view.weight * counted(corpus) / documents;
      // Of a view that is too large every corpus gives its share.
      const double share = std::min(1.0, most / static_cast<double>(tokens));
      part.max_tokens = std::max(part.max_tokens,
                                 static_cast<int64_t>(share * static_cast<double>(EstimatedTokens(
                                                                  corpus, max_document_tokens))));
    }
  }
  std::vector<Part> list;
  for (auto& [digest, part] : parts) list.push_back(std::move(part));
  return list;
}

// Every n-th document in the order in which the corpus holds them, then sorted by digest: the
// corpus's own digest stands for that order, so the same corpus gives the same sample. Equal
// documents count once.
absl::StatusOr<std::vector<Document>> ReadSample(const Part& part, int64_t max_document_tokens,
                                                 const Stores& stores, const RunContext& context) {
  const int64_t tokens = EstimatedTokens(part.corpus, max_document_tokens);
  const int64_t stride =
      std::max<int64_t>(1, (tokens + part.max_tokens - 1) / std::max<int64_t>(1, part.max_tokens));
  std::map<Digest, Document> sample;
  int64_t index = 0;
  const absl::Status read =
      stores.corpora.ForEachDocument(part.corpus.id(), [&](Document document) -> absl::Status {
        RETURN_IF_ERROR(context.CheckCancelled());
        if (index++ % stride == 0) {
          const Digest digest = Sha256Of(document.text);
          sample.emplace(digest, std::move(document));
        }
        return absl::OkStatus();
      });
  RETURN_IF_ERROR(read);
  std::vector<Document> documents;
  for (auto& [digest, document] : sample) documents.push_back(std::move(document));
  return documents;
}

// Packs documents into batches and counts their tokens.
class BatchSum {
 public:
  BatchSum(const ResidentModel& model, int64_t max_document_tokens, std::vector<WeightedBatch>& out)
      : out_(out),
        begin_(out.size()),
        packer_(model.tokenizer(), model.config().first_token_id,
                {.max_document_tokens = max_document_tokens}, [this](const TokenBlock& block) {
                  out_.push_back({{block.ids, block.offsets}, {}});
                  first_ += static_cast<int64_t>(block.offsets.size()) - 1;
                  all_ += static_cast<int64_t>(block.ids.size());
                  return absl::OkStatus();
                }) {}

  Packer& packer() { return packer_; }
  int64_t first() const { return first_; }
  int64_t others() const { return all_ - first_; }

  // `first_weight` for the first token of each document, `other_weight` for every other one.
  void SetWeights(double first_weight, double other_weight) {
    for (size_t b = begin_; b < out_.size(); ++b) {
      WeightedBatch& batch = out_[b];
      batch.weights.assign(batch.batch.ids.size(), static_cast<float>(other_weight));
      for (size_t i = 0; i + 1 < batch.batch.offsets.size(); ++i) {
        batch.weights[static_cast<size_t>(batch.batch.offsets[i])] =
            static_cast<float>(first_weight);
      }
    }
  }

 private:
  std::vector<WeightedBatch>& out_;
  const size_t begin_;
  int64_t first_ = 0, all_ = 0;
  Packer packer_;
};

// `position` counts documents over all parts, so that small samples are held out from, too.
absl::Status AddPart(const ResidentModel& model, const Part& part, int64_t max_document_tokens,
                     const std::vector<Document>& documents, int64_t& position,
                     CompensationText& text) {
  BatchSum calibration(model, max_document_tokens, text.calibration);
  BatchSum held_out(model, max_document_tokens, text.held_out);
  for (const Document& document : documents) {
    const bool judges = position++ % kHeldOutEvery == kHeldOutEvery - 1;
    RETURN_IF_ERROR((judges ? held_out : calibration).packer().Add(document));
  }
  RETURN_IF_ERROR(calibration.packer().Finish());
  RETURN_IF_ERROR(held_out.packer().Finish());
  const auto first = static_cast<double>(calibration.first() + held_out.first());
  const auto others = static_cast<double>(calibration.others() + held_out.others());
  const double first_weight = part.weight * kFirstTokenShare / std::max(first, 1.0);
  const double other_weight = part.weight * (1 - kFirstTokenShare) / std::max(others, 1.0);
  calibration.SetWeights(first_weight, other_weight);
  held_out.SetWeights(first_weight, other_weight);
  return absl::OkStatus();
}

}  // namespace

int64_t EstimateCompensationTokens(const ExpertRequest& request, const ResolvedSources& sources) {
  int64_t tokens = 0;
  for (const Part& part : PartsOf(sources, request.max_document_tokens)) tokens += part.max_tokens;
  return tokens;
}

absl::StatusOr<CompensationText> ReadCompensationText(const ResidentModel& model,
                                                      const ExpertRequest& request,
                                                      const ResolvedSources& sources,
                                                      const Stores& stores, RunContext& context) {
  CompensationText text;
  int64_t position = 0;
  for (const Part& part : PartsOf(sources, request.max_document_tokens)) {
    ASSIGN_OR_RETURN(const std::vector<Document> documents,
                     ReadSample(part, request.max_document_tokens, stores, context));
    RETURN_IF_ERROR(AddPart(model, part, request.max_document_tokens, documents, position, text));
  }
  return text;
}

}  // namespace secateur
