#include "server/pipeline/measure_overlap.h"

#include <functional>

#include "server/base/status_macros.h"
#include "server/corpus/shingles.h"

namespace secateur {
namespace {

using ShingleSink = std::function<void(const std::vector<uint64_t>&)>;

// Reads corpora, and counts what is read for the progress.
class ShingleReader {
 public:
  ShingleReader(const CorpusStore& corpora, RunContext& context)
      : corpora_(corpora), context_(context) {}

  // False when the corpus is not there.
  bool Expect(const std::string& id) {
    const auto corpus = corpora_.Get(id);
    if (corpus.ok()) total_ += corpus->documents;
    return corpus.ok();
  }

  absl::Status Read(const std::string& id, const ShingleSink& sink) {
    return corpora_.ForEachDocument(id, [&](const Document& document) -> absl::Status {
      RETURN_IF_ERROR(context_.CheckCancelled());
      sink(ShinglesOf(document.text));
      context_.Report({"overlap", ++done_, total_, "documents"});
      return absl::OkStatus();
    });
  }

 private:
  const CorpusStore& corpora_;
  RunContext& context_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

absl::StatusOr<std::optional<std::vector<double>>> MeasureOverlap(
    const std::vector<std::string>& held_out, const std::vector<std::string>& calibration,
    const CorpusStore& corpora, RunContext& context) {
  ShingleReader reader(corpora, context);
  if (calibration.empty()) return std::nullopt;
  for (const std::string& id : calibration) {
    if (!reader.Expect(id)) return std::nullopt;
  }
  for (const std::string& id : held_out) reader.Expect(id);
  std::vector<TextOverlap> overlaps(held_out.size());
  for (size_t i = 0; i < held_out.size(); ++i) {
    RETURN_IF_ERROR(reader.Read(held_out[i], [&](const std::vector<uint64_t>& shingles) {
      overlaps[i].AddHeldOut(shingles);
    }));
  }
  for (const std::string& id : calibration) {
    RETURN_IF_ERROR(reader.Read(id, [&](const std::vector<uint64_t>& shingles) {
      for (TextOverlap& overlap : overlaps) overlap.AddCalibration(shingles);
    }));
  }
  std::vector<double> shares;
  for (const TextOverlap& overlap : overlaps) shares.push_back(overlap.share());
  return shares;
}

}  // namespace secateur
