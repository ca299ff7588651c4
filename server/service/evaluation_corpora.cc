#include "server/service/evaluation_corpora.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/names.h"

namespace secateur {
namespace {

constexpr int kMostCorpora = 32;

absl::Status Bad(std::string_view path, std::string_view message) {
  return WithField(absl::InvalidArgumentError(StrCat(path, ": ", message)), path);
}

absl::StatusOr<GateEntry> EntryFromProto(const v1::GateEntry& entry, const std::string& path,
                                         const std::vector<std::string>& ids) {
  GateEntry out{.corpus = "", .max_rise = entry.max_rise()};
  if (!(out.max_rise >= 0) || !std::isfinite(out.max_rise)) {
    return Bad(path + ".max_rise",
               StrCat(out.max_rise, " is not a finite number of at least 0 (20 % is 0.2)"));
  }
  if (entry.corpus().empty()) return out;
  ASSIGN_OR_RETURN(out.corpus, ParseCorpusName(entry.corpus(), path + ".corpus"));
  if (!std::binary_search(ids.begin(), ids.end(), out.corpus)) {
    return Bad(path + ".corpus",
               StrCat(entry.corpus(), " is not one of spec.evaluation_corpora: add it there"));
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseEvaluationCorpora(
    const google::protobuf::RepeatedPtrField<std::string>& names, std::string_view path) {
  if (names.size() > kMostCorpora) {
    return WithField(absl::InvalidArgumentError(
                         StrCat(path, ": ", names.size(), " corpora; at most ", kMostCorpora)),
                     path);
  }
  std::vector<std::string> ids;
  for (int i = 0; i < names.size(); ++i) {
    ASSIGN_OR_RETURN(std::string id, ParseCorpusName(names[i], StrCat(path, "[", i, "]")));
    ids.push_back(std::move(id));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::Status CheckEvaluationCorpora(const CorpusStore& corpora, const std::vector<std::string>& ids,
                                    std::string_view path) {
  for (const std::string& id : ids) {
    ASSIGN_OR_RETURN(const CorpusInfo corpus, corpora.Get(id));
    if (corpus.purpose == CorpusPurpose::kEvaluation) continue;
    return WithField(absl::FailedPreconditionError(
                         StrCat(CorpusName(id),
                                " is a CALIBRATION corpus: what an expert is made from cannot "
                                "measure it; upload held-out text with purpose EVALUATION")),
                     path);
  }
  return absl::OkStatus();
}

absl::StatusOr<QualityGate> GateFromProto(
    const google::protobuf::RepeatedPtrField<v1::GateEntry>& entries,
    const std::vector<std::string>& ids) {
  if (!entries.empty() && ids.empty()) {
    return Bad("gate", "there is nothing to measure: name corpora in spec.evaluation_corpora");
  }
  QualityGate gate;
  for (int i = 0; i < entries.size(); ++i) {
    const std::string path = StrCat("gate[", i, "]");
    ASSIGN_OR_RETURN(GateEntry entry, EntryFromProto(entries[i], path, ids));
    const bool twice = std::any_of(gate.begin(), gate.end(), [&](const GateEntry& other) {
      return other.corpus == entry.corpus;
    });
    if (twice) return Bad(path + ".corpus", "stands there twice");
    gate.push_back(std::move(entry));
  }
  return gate;
}

}  // namespace secateur
