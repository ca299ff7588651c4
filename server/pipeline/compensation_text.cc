#include "server/pipeline/compensation_text.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <set>
#include <utility>

#include "server/base/status_macros.h"
#include "server/corpus/packing.h"
#include "server/profile/dimension.h"

namespace secateur {
namespace {

constexpr int64_t kBytesPerToken = 3;  // roughly, over languages; only bounds what is read
constexpr double kFirstTokenShare = 1.0 / 200;

// A corpus, roughly how many tokens it has and how many of them are taken, and its views.
struct Part {
  CorpusInfo corpus;
  double tokens = 0;
  double max_tokens = 0;
  std::vector<size_t> views;
  double share = 0;  // of the selection's tokens, where all views are larger than theirs
};

double EstimatedTokens(const CorpusInfo& corpus, int64_t max_document_tokens) {
  return static_cast<double>(std::max<int64_t>(
      1, std::min(corpus.bytes / kBytesPerToken, corpus.documents * max_document_tokens)));
}

double CountedDocuments(const CorpusInfo& corpus) {
  return static_cast<double>(std::min(corpus.documents, kCorpusWeightCap));
}

// The scale at which parts give `most` tokens in all: a part its share of them or all it has, so
// that others take up what small ones leave.
double ScaleFor(double most, const std::map<Digest, Part>& parts) {
  double low = 0, high = most;
  const auto given = [&parts](double scale) {
    double sum = 0;
    for (const auto& [digest, part] : parts) sum += std::min(part.tokens, scale * part.share);
    return sum;
  };
  while (given(high) < most) high *= 2;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (given(middle) < most ? low : high) = middle;
  }
  return high;
}

void ShareOutSelection(double most, std::map<Digest, Part>& parts) {
  double all = 0;
  for (const auto& [digest, part] : parts) all += part.tokens;
  // Estimates are rough, so where all fits each may have more than was told.
  const double scale = all > most ? ScaleFor(most, parts) : 0;
  for (auto& [digest, part] : parts) {
    part.max_tokens =
        all > most ? std::min(part.tokens, scale * part.share) : most * part.tokens / all;
  }
}

// Each corpus of the views once.
std::vector<Part> PartsOf(const ResolvedSources& sources, int64_t max_document_tokens) {
  std::map<Digest, Part> parts;
  const auto add = [&](size_t v, double most) {
    const ResolvedView& view = sources.views[v];
    double tokens = 0;
    for (const CorpusInfo& corpus : view.corpora) {
      tokens += EstimatedTokens(corpus, max_document_tokens);
    }
    for (const CorpusInfo& corpus : view.corpora) {
      Part& part = parts[corpus.digest];
      part.corpus = corpus;
      part.tokens = EstimatedTokens(corpus, max_document_tokens);
      part.views.push_back(v);
      part.share = std::max(part.share, view.weight * part.tokens / tokens);
      part.max_tokens = std::max(part.max_tokens, most * part.tokens / tokens);
    }
  };
  const size_t selected = sources.views.size() - (sources.general ? 1 : 0);
  for (size_t v = 0; v < selected; ++v) add(v, 0);
  ShareOutSelection(kSelectionTokens, parts);
  if (sources.general) add(selected, kGeneralTokens);
  std::vector<Part> list;
  for (auto& [digest, part] : parts) list.push_back(std::move(part));
  return list;
}

// Packs documents into batches of `out`, whose weights come later.
class PartBatches {
 public:
  PartBatches(const PartBatches&) = delete;
  PartBatches& operator=(const PartBatches&) = delete;
  PartBatches(const ResidentModel& model, int64_t max_document_tokens,
              std::vector<WeightedBatch>& out)
      : out_(out),
        begin_(out.size()),
        packer_(model.tokenizer(), model.config().first_token_id,
                {.max_document_tokens = max_document_tokens}, [this](const TokenBlock& block) {
                  out_.push_back({{block.ids, block.offsets}, {}});
                  first_ += static_cast<int64_t>(block.offsets.size()) - 1;
                  end_ = out_.size();
                  return absl::OkStatus();
                }) {}

  absl::Status Add(const Document& document) { return packer_.Add(document); }
  absl::Status Finish() { return packer_.Finish(); }
  int64_t tokens() const { return packer_.tokens(); }
  int64_t first() const { return first_; }  // after Finish(), of documents

  // `first_weight` for the first token of each document, `other_weight` for every other one.
  void SetWeights(double first_weight, double other_weight) {
    for (size_t b = begin_; b < end_; ++b) {
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
  size_t end_ = 0;
  int64_t first_ = 0;
  Packer packer_;
};

class TextReader {
 public:
  TextReader(const ResidentModel& model, const ExpertRequest& request,
             const ResolvedSources& sources, const Stores& stores, RunContext& context,
             int64_t held_out_at)
      : model_(model),
        max_document_tokens_(request.max_document_tokens),
        sources_(sources),
        stores_(stores),
        context_(context),
        held_out_at_(held_out_at),
        counted_(sources.views.size(), 0.0) {}

  absl::StatusOr<CompensationText> Read() {
    const std::vector<Part> parts = PartsOf(sources_, max_document_tokens_);
    double left = 0;  // tokens; below 0 where a document was longer than what a corpus was to give
    for (const Part& part : parts) {
      left += part.max_tokens;
      if (left <= 0 && HaveBegun(part.views)) continue;
      RETURN_IF_ERROR(ReadPart(part));
      left = std::min(0.0, left - static_cast<double>(read_.back().tokens()));
    }
    for (ReadCorpus& read : read_) SetWeights(read);
    return std::move(text_);
  }

 private:
  struct ReadCorpus {
    const Part& part;
    PartBatches calibration, held_out;

    ReadCorpus(const Part& of, const TextReader& reader, CompensationText& text)
        : part(of),
          calibration(reader.model_, reader.max_document_tokens_, text.calibration),
          held_out(reader.model_, reader.max_document_tokens_, text.held_out) {}
    int64_t tokens() const { return calibration.tokens() + held_out.tokens(); }
  };

  bool HaveBegun(const std::vector<size_t>& views) const {
    return std::all_of(views.begin(), views.end(), [&](size_t v) { return counted_[v] > 0; });
  }

  // Every n-th document in the order in which the corpus holds them, then by digest: the corpus's
  // own digest stands for that order, so the same corpus gives the same sample. Documents that an
  // earlier corpus gave are left out: what judges must not be what is learnt from.
  absl::StatusOr<std::map<Digest, Document>> Sample(const Part& part) {
    const auto stride = static_cast<int64_t>(
        std::ceil(std::max(1.0, part.tokens / std::max(1.0, part.max_tokens))));
    std::map<Digest, Document> sample;
    int64_t index = 0;
    const absl::Status read =
        stores_.corpora.ForEachDocument(part.corpus.id(), [&](Document document) -> absl::Status {
          RETURN_IF_ERROR(context_.CheckCancelled());
          if (index++ % stride != 0) return absl::OkStatus();
          const Digest digest = Sha256Of(document.text);
          if (!taken_.contains(digest)) sample.emplace(digest, std::move(document));
          return absl::OkStatus();
        });
    RETURN_IF_ERROR(read);
    return sample;
  }

  absl::Status ReadPart(const Part& part) {
    ASSIGN_OR_RETURN(const auto sample, Sample(part));
    ReadCorpus& read = read_.emplace_back(part, *this, text_);
    for (const auto& [digest, document] : sample) {
      if (read.tokens() > 0 && static_cast<double>(read.tokens()) >= part.max_tokens) break;
      taken_.insert(digest);
      // Counted over all parts, so that small samples are held out from, too.
      const bool judges = position_++ % kHeldOutEvery == held_out_at_;
      RETURN_IF_ERROR((judges ? read.held_out : read.calibration).Add(document));
    }
    RETURN_IF_ERROR(read.calibration.Finish());
    RETURN_IF_ERROR(read.held_out.Finish());
    if (read.tokens() == 0) return absl::OkStatus();
    for (const size_t v : part.views) counted_[v] += CountedDocuments(part.corpus);
    return absl::OkStatus();
  }

  void SetWeights(ReadCorpus& read) const {
    double weight = 0;
    for (const size_t v : read.part.views) {
      if (counted_[v] == 0) continue;
      weight += sources_.views[v].weight * CountedDocuments(read.part.corpus) / counted_[v];
    }
    const auto first = static_cast<double>(read.calibration.first() + read.held_out.first());
    const double others = static_cast<double>(read.tokens()) - first;
    const double first_weight = weight * kFirstTokenShare / std::max(first, 1.0);
    const double other_weight = weight * (1 - kFirstTokenShare) / std::max(others, 1.0);
    read.calibration.SetWeights(first_weight, other_weight);
    read.held_out.SetWeights(first_weight, other_weight);
  }

  const ResidentModel& model_;
  const int64_t max_document_tokens_;
  const ResolvedSources& sources_;
  const Stores& stores_;
  RunContext& context_;
  const int64_t held_out_at_;    // place among so many documents
  std::vector<double> counted_;  // by view, documents of the corpora that were read
  std::list<ReadCorpus> read_;
  std::set<Digest> taken_;
  int64_t position_ = 0;  // of documents
  CompensationText text_;
};

}  // namespace

int64_t EstimateCompensationTokens(const ExpertRequest& request, const ResolvedSources& sources) {
  double tokens = 0;
  for (const Part& part : PartsOf(sources, request.max_document_tokens)) {
    tokens += std::min(part.max_tokens, part.tokens);
  }
  return static_cast<int64_t>(tokens);
}

absl::StatusOr<CompensationText> ReadCompensationText(const ResidentModel& model,
                                                      const ExpertRequest& request,
                                                      const ResolvedSources& sources,
                                                      const Stores& stores, RunContext& context) {
  const auto read = [&](int64_t held_out_at) {
    return TextReader(model, request, sources, stores, context, held_out_at).Read();
  };
  ASSIGN_OR_RETURN(CompensationText text, read(kHeldOutEvery - 1));
  return text.held_out.empty() ? read(1) : std::move(text);  // there were fewer
}

}  // namespace secateur
