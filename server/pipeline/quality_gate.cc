#include "server/pipeline/quality_gate.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

// What the gate allows on a corpus, `name` its resource name; nothing where it says nothing.
std::optional<double> AllowedRise(const QualityGate& gate, const std::string& name) {
  std::optional<double> allowed;
  for (const GateEntry& entry : gate) {
    if (name == "corpora/" + entry.corpus) return entry.max_rise;
    if (entry.corpus.empty()) allowed = entry.max_rise;
  }
  return allowed;
}

// In words, when `result` rises by more than `allowed`.
std::optional<std::string> Breach(const v1::EvaluationResult& result, double allowed) {
  const double base = result.base_bits_per_byte(), expert = result.expert_bits_per_byte();
  if (expert <= base * (1 + allowed)) return std::nullopt;  // false for NaN
  return absl::StrFormat("bits per byte rise by %.2f %% (from %.4f to %.4f); %.2f %% are allowed",
                         100 * (expert / base - 1), base, expert, 100 * allowed);
}

}  // namespace

absl::Status CheckGate(
    const QualityGate& gate,
    const google::protobuf::RepeatedPtrField<v1::EvaluationResult>& evaluations) {
  std::vector<std::pair<std::string, std::string>> breaches;
  std::string words;
  for (const v1::EvaluationResult& result : evaluations) {
    const std::optional<double> allowed = AllowedRise(gate, result.corpus());
    const auto breach = allowed ? Breach(result, *allowed) : std::nullopt;
    if (!breach) continue;
    breaches.emplace_back(result.corpus(), *breach);
    words += StrCat("; ", result.corpus(), ": ", *breach);
  }
  if (breaches.empty()) return absl::OkStatus();
  absl::Status status =
      WithReason(absl::FailedPreconditionError(StrCat(
                     "the quality gate is not met on ", breaches.size(), " of ", evaluations.size(),
                     " evaluation corpora, so the expert is not handed out", words,
                     "; cut less, or allow more")),
                 "GATE_NOT_MET");
  for (const auto& [corpus, breach] : breaches) {
    status = WithViolation(std::move(status), corpus, breach);
  }
  return status;
}

}  // namespace secateur
