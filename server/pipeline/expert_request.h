// A request for an expert after its fields have been checked and its defaults made explicit. Plain
// data.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "server/compensate/compensation.h"
#include "server/mask/budget.h"
#include "server/mask/compose.h"
#include "server/mask/cut.h"
#include "server/mask/mixed_budget.h"

namespace secateur {

// Version of the algorithms behind the rules; a change makes new experts.
inline constexpr int kAlgorithmVersion = 4;
// AUTO takes the cell from this many documents on; where they are fewer, BLEND counts the cell
// n / (n + kCellDocuments).
inline constexpr int64_t kCellDocuments = 32;

// Default of `general_weight` with SECOND_ORDER: costs the target a few percent of its loss and
// takes a quarter or more off that of general text (ALGORITHM 0.1).
inline constexpr double kSecondOrderGeneralWeight = 0.1;

struct Selection {
  std::string key;
  std::vector<std::string> values;  // sorted, distinct
  double weight = 1;
};

enum class RelevanceSource { kAuto, kCell, kCompose, kBlend };

// CUS_PRUN: the share of a layer that counts as irrelevant in a document.
struct Sigma {
  double value = 0;
};
using ExpertBudget = std::variant<Budget, Sigma>;

struct ExpertRequest {
  std::vector<Selection> select;  // sorted by key
  bool neurons = true;  // FFN neurons go; else the vocabulary alone, and nothing ranks them
  // Channels of attention go, with neurons: CUS_PRUN, masked, by sigma.
  bool attention_channels = false;
  bool kv_head_groups = false;  // KV head groups go, with neurons
  // Groups that every layer keeps, with kMasked on average; 0: as many as remove least relevance
  // within the budget.
  int64_t kept_kv_head_groups = 0;
  bool vocabulary = false;      // rows of the vocabulary go
  int64_t vocabulary_size = 0;  // rows that stay at least; 0: as held-out text asks for
  // How masks are composed from profiles; with `second_order`, of the plain mask that is to be
  // beaten.
  Rule rule = Rule::kMean;
  ViewOptions view;
  bool second_order = false;  // with compensation
  Compensation compensation = Compensation::kNone;
  Shape shape = Shape::kUniform;
  double general_weight = 0;  // of general text, beside 1 for the selection
  RelevanceSource source = RelevanceSource::kAuto;
  ExpertBudget budget;
  int64_t alignment = 32;    // of widths, from the target
  GroupTarget group_target;  // of KV head groups, from the target and the shape
  int64_t max_document_tokens = 512;
  std::vector<std::string> evaluation_corpora;  // ids, sorted, distinct
};

}  // namespace secateur
