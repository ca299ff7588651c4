// Plans and experts as text for people.
#pragma once

#include <ostream>
#include <string>

#include "client/cli/table.h"
#include "secateur/v1/secateur.pb.h"

namespace secateur::cli {

using Evaluations = google::protobuf::RepeatedPtrField<v1::EvaluationResult>;

// "remove 35%", "at most 100M parameters", "width 1024".
std::string FormatBudget(const v1::Budget& budget);
// "language=ko,ja domain=legal".
std::string FormatSelection(const v1::ExpertSpec& spec);

// Where the relevance comes from, the base, and one line for each size.
void PrintPlans(const v1::PlanExpertResponse& response, std::ostream& out);
// Everything about one expert: sizes, verification, quality, files; and the size that was asked
// for, where that is known.
void PrintExpert(const v1::Expert& expert, std::ostream& out, const v1::Budget& asked = {});
// Base and expert on each corpus: bits per byte, and accuracy where there were choices.
void PrintEvaluations(const Evaluations& evaluations, std::ostream& out);
Table ExpertTable(const google::protobuf::RepeatedPtrField<v1::Expert>& experts);

}  // namespace secateur::cli
