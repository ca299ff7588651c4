#include "server/vocabulary/vocabulary_order.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace secateur {
namespace {

// Rows as they come, each behind what it is made of.
class Sequence {
 public:
  Sequence(const BpeFile& file, const Derivations& derivations, int64_t rows)
      : file_(file), derivations_(derivations), taken_(static_cast<size_t>(rows)) {}

  void Add(int32_t id) {
    if (!file_.IsToken(id)) return Take(id);
    for (const int32_t step : derivations_.Of(id)) Take(step);
  }

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  std::vector<int32_t> ids() && { return std::move(ids_); }

 private:
  void Take(int32_t id) {
    if (static_cast<size_t>(id) >= taken_.size() || taken_[static_cast<size_t>(id)]) return;
    taken_[static_cast<size_t>(id)] = true;
    ids_.push_back(id);
  }

  const BpeFile& file_;
  const Derivations& derivations_;
  std::vector<bool> taken_;
  std::vector<int32_t> ids_;
};

// All rows, best first.
std::vector<int32_t> Ranked(const BpeFile& file, int64_t rows, const std::vector<int64_t>& made,
                            const std::vector<float>& scores) {
  const auto key = [&](int32_t id) {
    const auto at = static_cast<size_t>(id);
    return std::tuple(-made[at], !file.IsToken(id), at < scores.size() ? -scores[at] : 0.0F, id);
  };
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return key(a) < key(b); });
  return ids;
}

}  // namespace

VocabularyOrder OrderVocabulary(const BpeFile& file, const Derivations& derivations, int64_t rows,
                                const VocabularyNeeds& needs) {
  std::vector<int64_t> counts = needs.counts;
  counts.resize(static_cast<size_t>(std::max<int64_t>(file.id_limit(), rows)));
  const std::vector<int64_t> made = DerivationCounts(derivations, counts);
  VocabularyOrder order;
  Sequence sequence(file, derivations, rows);
  for (const int32_t id : needs.required) sequence.Add(id);
  order.required = order.needed = sequence.size();
  for (const int32_t id : Ranked(file, rows, made, needs.scores)) {
    sequence.Add(id);
    if (made[static_cast<size_t>(id)] > 0) order.needed = sequence.size();
  }
  order.rows = std::move(sequence).ids();
  return order;
}

int64_t RowsForShare(const VocabularyOrder& order, const std::vector<int64_t>& counts,
                     double share) {
  const auto count = [&counts](int32_t id) {
    return static_cast<size_t>(id) < counts.size() ? counts[static_cast<size_t>(id)] : 0;
  };
  const int64_t total = std::accumulate(order.rows.begin(), order.rows.end(), int64_t{0},
                                        [&](int64_t sum, int32_t id) { return sum + count(id); });
  int64_t outside = 0;
  auto rows = static_cast<int64_t>(order.rows.size());
  for (; rows > order.required; --rows) {
    outside += count(order.rows[static_cast<size_t>(rows) - 1]);
    if (static_cast<double>(outside) > share * static_cast<double>(total)) break;
  }
  return rows;
}

int64_t RoundedRows(int64_t rows, int64_t all) {
  return std::min(all,
                  (rows + kVocabularyMultiple - 1) / kVocabularyMultiple * kVocabularyMultiple);
}

std::optional<int32_t> KeptVocabulary::NewId(int64_t id) const {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  if (at == ids.end() || *at != id) return std::nullopt;
  return static_cast<int32_t>(at - ids.begin());
}

KeptVocabulary KeepRows(const BpeFile& file, const VocabularyOrder& order, int64_t rows) {
  KeptVocabulary kept{.ids = {order.rows.begin(), order.rows.begin() + rows}, .rows = rows};
  std::sort(kept.ids.begin(), kept.ids.end());
  for (auto id = static_cast<int32_t>(order.rows.size()); id < file.id_limit(); ++id) {
    if (file.IsToken(id)) kept.ids.push_back(id);
  }
  return kept;
}

}  // namespace secateur
