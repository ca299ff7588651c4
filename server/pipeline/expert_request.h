// A request for an expert after its fields have been checked and its defaults made explicit. Plain
// data.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "server/mask/budget.h"
#include "server/mask/compose.h"

namespace secateur {

// Version of the algorithms behind the rules; a change makes new experts.
inline constexpr int kAlgorithmVersion = 1;
// AUTO takes the cell from this many documents on.
inline constexpr int64_t kCellDocuments = 32;

struct Selection {
  std::string key;
  std::vector<std::string> values;  // sorted, distinct
  double weight = 1;
};

enum class RelevanceSource { kAuto, kCell, kCompose };

// CUS_PRUN: the share of a layer that counts as irrelevant in a document.
struct Sigma {
  double value = 0;
};
using ExpertBudget = std::variant<Budget, Sigma>;

struct ExpertRequest {
  std::vector<Selection> select;  // sorted by key
  Rule rule = Rule::kRelativeMean;
  RelevanceSource source = RelevanceSource::kAuto;
  ExpertBudget budget;
  int64_t alignment = 32;  // of widths, from the target
  int64_t max_document_tokens = 512;
  std::vector<std::string> evaluation_corpora;  // ids, sorted, distinct
};

}  // namespace secateur
