#include "server/service/evaluation_corpora.h"

#include <algorithm>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/names.h"

namespace secateur {
namespace {

constexpr int kMostCorpora = 32;

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

}  // namespace secateur
