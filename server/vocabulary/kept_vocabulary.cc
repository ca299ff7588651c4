#include "server/vocabulary/kept_vocabulary.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>

namespace secateur {
namespace {

int64_t RoundUp(int64_t value) {
  return (value + kVocabularyMultiple - 1) / kVocabularyMultiple * kVocabularyMultiple;
}

// Ids by the question whether they stay.
class Selection {
 public:
  Selection(const BpeFile& file, const Derivations& derivations, int64_t rows)
      : file_(file),
        derivations_(derivations),
        rows_(rows),
        stays_(static_cast<size_t>(std::max<int64_t>(file.id_limit(), rows))) {}

  int64_t size() const { return static_cast<int64_t>(stays_.size()); }
  int64_t rows() const { return kept_rows_; }
  bool stays(int32_t id) const { return stays_[static_cast<size_t>(id)]; }

  // With what it is made of, if that leaves at most `most` rows kept; tells whether it did.
  bool Add(int32_t id, int64_t most) {
    std::vector<int32_t> missing = Steps(id);
    std::sort(missing.begin(), missing.end());
    missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
    std::erase_if(missing, [this](int32_t step) { return stays(step); });
    const auto added = std::count_if(missing.begin(), missing.end(),
                                     [this](int32_t step) { return step < rows_; });
    if (missing.empty() || kept_rows_ + added > most) return false;
    for (const int32_t step : missing) stays_[static_cast<size_t>(step)] = true;
    kept_rows_ += added;
    return true;
  }

  KeptVocabulary Take() const {
    KeptVocabulary kept{.ids = {}, .rows = kept_rows_};
    for (int32_t id = 0; id < size(); ++id) {
      if (stays(id)) kept.ids.push_back(id);
    }
    return kept;
  }

  // `id` alone for a row that has no token.
  std::vector<int32_t> Steps(int32_t id) const {
    const bool is_token = id < file_.id_limit() && !file_.token(id).empty();
    return is_token ? derivations_.Of(id) : std::vector<int32_t>{id};
  }

 private:
  const BpeFile& file_;
  const Derivations& derivations_;
  const int64_t rows_;
  std::vector<bool> stays_;
  int64_t kept_rows_ = 0;
};

// Rows that do not stay yet, best first.
std::vector<int32_t> Candidates(const Selection& selection, const BpeFile& file,
                                const Derivations& derivations, int64_t rows,
                                const std::vector<int64_t>& made) {
  const auto seen = [&made](int32_t id) { return made[static_cast<size_t>(id)]; };
  std::vector<std::tuple<int64_t, bool, int32_t>> ranked;
  for (int32_t id = 0; id < rows; ++id) {
    if (selection.stays(id)) continue;
    const std::vector<int32_t> characters =
        id < file.id_limit() ? derivations.Characters(id) : std::vector<int32_t>();
    const bool spelled = !characters.empty() && std::all_of(characters.begin(), characters.end(),
                                                            [&](int32_t c) { return seen(c) > 0; });
    ranked.emplace_back(-seen(id), !spelled, id);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<int32_t> ids;
  for (const auto& [rank, unspelled, id] : ranked) ids.push_back(id);
  return ids;
}

}  // namespace

std::optional<int32_t> KeptVocabulary::NewId(int64_t id) const {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  if (at == ids.end() || *at != id) return std::nullopt;
  return static_cast<int32_t>(at - ids.begin());
}

KeptVocabulary SelectVocabulary(const BpeFile& file, const Derivations& derivations, int64_t rows,
                                const VocabularyNeeds& needs, const VocabularyOptions& options) {
  Selection selection(file, derivations, rows);
  for (const int32_t id : needs.required) selection.Add(id, rows);
  std::vector<int64_t> counts = needs.counts;
  counts.resize(static_cast<size_t>(selection.size()));
  const std::vector<int64_t> made = DerivationCounts(derivations, counts);
  for (int32_t id = 0; id < selection.size(); ++id) {
    if (made[static_cast<size_t>(id)] >= options.min_occurrences) selection.Add(id, rows);
  }
  const int64_t wanted = std::min(rows, RoundUp(std::max(selection.rows(), options.min_rows)));
  const std::vector<int32_t> candidates = Candidates(selection, file, derivations, rows, made);
  // A token that needs more rows than are left waits for the next round; each round has one that
  // fits, since what the shortest missing token is made of does not miss.
  while (selection.rows() < wanted) {
    for (const int32_t id : candidates) {
      if (selection.rows() < wanted && !selection.stays(id)) selection.Add(id, wanted);
    }
  }
  return selection.Take();
}

}  // namespace secateur
