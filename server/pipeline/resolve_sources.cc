#include "server/pipeline/resolve_sources.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

bool ByDigest(const CorpusInfo& a, const CorpusInfo& b) { return a.digest < b.digest; }

bool Carries(const CorpusInfo& corpus, const Selection& selection) {
  const auto label = corpus.labels.find(selection.key);
  return label != corpus.labels.end() &&
         std::binary_search(selection.values.begin(), selection.values.end(), label->second);
}

// Levenshtein distance, one row at a time.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

absl::Status NoCorpus(const std::string& key, const std::string& value,
                      const std::vector<CorpusInfo>& corpora) {
  const std::vector<std::string> nearest = NearestValues(key, value, corpora);
  return WithReason(
      WithField(
          absl::FailedPreconditionError(StrCat(
              "no calibration corpus carries ", key, "=", value, "; ",
              nearest.empty() ? StrCat("none carries a ", key, " label at all")
                              : StrCat("known values of ", key, ": ", absl::StrJoin(nearest, ", ")),
              ": upload one with UploadCorpus, or choose a known value")),
          "spec.select"),
      "NO_CORPUS_FOR_LABEL");
}

absl::StatusOr<std::vector<ResolvedView>> DimensionViews(const ExpertRequest& request,
                                                         const std::vector<CorpusInfo>& corpora) {
  double weight_sum = 0;
  for (const Selection& selection : request.select) weight_sum += selection.weight;
  std::vector<ResolvedView> views;
  for (const Selection& selection : request.select) {
    for (const std::string& value : selection.values) {
      ResolvedView view{
          .corpora = {},
          .weight = selection.weight / weight_sum / static_cast<double>(selection.values.size())};
      std::copy_if(
          corpora.begin(), corpora.end(), std::back_inserter(view.corpora),
          [&](const CorpusInfo& corpus) { return Carries(corpus, {selection.key, {value}, 1}); });
      if (view.corpora.empty()) return NoCorpus(selection.key, value, corpora);
      views.push_back(std::move(view));
    }
  }
  return views;
}

int64_t CountDocuments(const std::vector<CorpusInfo>& corpora) {
  return std::accumulate(corpora.begin(), corpora.end(), int64_t{0},
                         [](int64_t sum, const CorpusInfo& c) { return sum + c.documents; });
}

// Fills `corpora`, `shared_corpora` and `documents` from `views`.
void CountCorpora(ResolvedSources& sources) {
  std::map<Digest, int> uses;
  sources.corpora.clear();
  for (const ResolvedView& view : sources.views) {
    for (const CorpusInfo& corpus : view.corpora) {
      if (++uses[corpus.digest] == 1) sources.corpora.push_back(corpus);
    }
  }
  std::sort(sources.corpora.begin(), sources.corpora.end(), ByDigest);
  sources.shared_corpora =
      std::count_if(uses.begin(), uses.end(), [](const auto& use) { return use.second > 1; });
  sources.documents = CountDocuments(sources.corpora);
}

absl::Status NoCell() {
  return WithReason(WithField(absl::FailedPreconditionError(
                                  "no calibration corpus carries all selected labels: use source "
                                  "COMPOSE or AUTO, or upload one that does"),
                              "spec.source"),
                    "NO_CORPUS_FOR_CELL");
}

// On which side of the threshold the documents of the cell are.
std::string CountInWords(int64_t documents) {
  if (documents == 0) return "no document carries all selected labels";
  return absl::StrFormat("%d %s all selected labels, which is %s %d", documents,
                         documents == 1 ? "document carries" : "documents carry",
                         documents >= kCellDocuments ? "at least" : "fewer than", kCellDocuments);
}

// AUTO where that was asked for comes to one of the others; `reason` says why.
absl::StatusOr<RelevanceSource> ChooseSource(const ExpertRequest& request,
                                             const std::vector<CorpusInfo>& cell,
                                             std::string& reason) {
  if (request.source != RelevanceSource::kAuto) {
    reason = "asked for";
    if (cell.empty() && request.source != RelevanceSource::kCompose) return NoCell();
    return request.source;
  }
  const int64_t documents = CountDocuments(cell);
  reason = CountInWords(documents);
  if (documents >= kCellDocuments) return RelevanceSource::kCell;
  if (documents == 0) return RelevanceSource::kCompose;
  if (request.rule != Rule::kCusPrun) return RelevanceSource::kBlend;
  reason += ", and CUS_PRUN has no weights to blend by";
  return RelevanceSource::kCompose;
}

std::vector<ResolvedView> Blended(std::vector<CorpusInfo> cell,
                                  std::vector<ResolvedView> dimensions) {
  const auto documents = static_cast<double>(CountDocuments(cell));
  const double share = documents / (documents + static_cast<double>(kCellDocuments));
  std::vector<ResolvedView> views = {{.corpora = std::move(cell), .weight = share}};
  for (ResolvedView& view : dimensions) {
    view.weight *= 1 - share;
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace

std::vector<std::string> NearestValues(const std::string& key, const std::string& value,
                                       const std::vector<CorpusInfo>& corpora) {
  std::set<std::pair<size_t, std::string>> ranked;
  for (const CorpusInfo& corpus : corpora) {
    if (const auto label = corpus.labels.find(key); label != corpus.labels.end()) {
      ranked.emplace(EditDistance(value, label->second), label->second);
    }
  }
  std::vector<std::string> nearest;
  for (const auto& [distance, known] : ranked) {
    if (nearest.size() < 5) nearest.push_back(known);
  }
  return nearest;
}

absl::StatusOr<ResolvedSources> ResolveSources(const ExpertRequest& request,
                                               const CorpusStore& corpora) {
  std::vector<CorpusInfo> all =
      corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration});
  std::sort(all.begin(), all.end(), ByDigest);
  ASSIGN_OR_RETURN(std::vector<ResolvedView> dimensions, DimensionViews(request, all));
  std::vector<CorpusInfo> cell;
  std::copy_if(all.begin(), all.end(), std::back_inserter(cell), [&](const CorpusInfo& corpus) {
    return std::all_of(request.select.begin(), request.select.end(),
                       [&](const Selection& selection) { return Carries(corpus, selection); });
  });
  ResolvedSources resolved;
  ASSIGN_OR_RETURN(resolved.source, ChooseSource(request, cell, resolved.reason));
  switch (resolved.source) {
    case RelevanceSource::kCell:
      resolved.views.push_back({.corpora = std::move(cell), .weight = 1});
      break;
    case RelevanceSource::kBlend:
      resolved.views = Blended(std::move(cell), std::move(dimensions));
      break;
    default:
      resolved.views = std::move(dimensions);
      break;
  }
  CountCorpora(resolved);
  return resolved;
}

}  // namespace secateur
