#include "client/cli/expert_report.h"

#include <google/protobuf/util/time_util.h>

#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/format.h"

namespace secateur::cli {
namespace {

std::string Count(int64_t count) { return FormatCount(static_cast<double>(count)); }
std::string Bytes(int64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

// "width 1536, 135M parameters, 257 MiB, 22.5 KiB of KV cache a token".
std::string FormatSize(const v1::Size& size) {
  return absl::StrCat("width ", size.width(), ", ", Count(size.parameter_count()), " parameters, ",
                      Bytes(size.tensor_bytes()), ", ", Bytes(size.kv_cache_bytes_per_token()),
                      " of KV cache a token");
}

// Engines that load the expert.
std::string FormatEngines(const v1::Plan& plan) {
  std::vector<std::string> engines;
  for (const v1::EngineSupport& support : plan.engines()) {
    if (support.loads()) engines.push_back(FormatEnum(*v1::Engine_descriptor(), support.engine()));
  }
  return engines.empty() ? "none" : absl::StrJoin(engines, ", ");
}

void PrintRefusals(const v1::Plan& plan, std::ostream& out) {
  for (const v1::EngineSupport& support : plan.engines()) {
    if (support.loads()) continue;
    out << "at width " << plan.size().width() << " "
        << FormatEnum(*v1::Engine_descriptor(), support.engine())
        << " will not load it: " << Printable(support.reason()) << "\n";
  }
}

// "94528 of 262144 tokens: 18372 are the text's; 0.08% of held-out tokens fall apart".
std::string FormatVocabulary(const v1::VocabularyResult& vocabulary, const v1::Size& size,
                             const v1::Size& base) {
  return absl::StrFormat("%d of %d tokens: %d are the text's; %.2f%% of held-out tokens fall apart",
                         size.vocabulary_size(), base.vocabulary_size(), vocabulary.text_rows(),
                         100 * vocabulary.split_token_share());
}

// "5 neurons in 3 layers, which write too much of the residual stream to go".
std::string FormatProtected(const google::protobuf::RepeatedField<int64_t>& by_layer) {
  int64_t neurons = 0, layers = 0;
  for (const int64_t count : by_layer) {
    neurons += count;
    layers += count > 0 ? 1 : 0;
  }
  if (neurons == 0) return "";
  return absl::StrCat(FormatNumber(neurons, "neuron", "neurons"), " in ",
                      FormatNumber(layers, "layer", "layers"),
                      ", which write too much of the residual stream to go");
}

// "220 documents agree to 0.87 with as many others (0.79 half with half)"; then the advice, if any.
std::string FormatConvergence(const v1::Convergence& convergence) {
  std::string text;
  if (convergence.split_half_agreement() > 0) {
    text = absl::StrFormat("%d documents agree to %.2f with as many others (%.2f half with half)",
                           convergence.document_count(), convergence.agreement(),
                           convergence.split_half_agreement());
  }
  if (convergence.advice().empty()) return text;
  return absl::StrCat(text, text.empty() ? "" : "; ", convergence.advice());
}

// What the sizes say, which is the same for all of them: protected neurons, and the least stable.
void AddStability(const v1::PlanExpertResponse& response, Table& table) {
  const std::string kept = FormatProtected(response.plans(0).protected_neuron_counts());
  if (!kept.empty()) table.AddRow({"protected", kept});
  const v1::Plan* least = nullptr;
  for (const v1::Plan& plan : response.plans()) {
    if (!plan.has_convergence()) continue;
    if (least == nullptr || plan.convergence().agreement() < least->convergence().agreement()) {
      least = &plan;
    }
  }
  if (least == nullptr) return;
  const std::string at =
      response.plans_size() == 1 ? "" : absl::StrCat("at width ", least->size().width(), " ");
  table.AddRow({"stability", at + FormatConvergence(least->convergence())});
}

// What compensation takes; the same for all sizes.
void AddCost(const v1::PlanExpertResponse& response, Table& table) {
  if (!response.plans(0).has_compensation_cost()) return;
  const v1::CompensationCost& cost = response.plans(0).compensation_cost();
  table.AddRow(
      {"compensation",
       absl::StrCat("about ", FormatCount(static_cast<double>(cost.token_count())), " tokens, ",
                    FormatBytes(static_cast<double>(cost.memory_bytes())), " of memory, ",
                    FormatBytes(static_cast<double>(cost.disk_bytes())), " of temporary files")});
}

void PrintPlanSource(const v1::PlanExpertResponse& response, std::ostream& out) {
  const v1::Plan& plan = response.plans(0);
  Table table({});
  table.AddRow({"source", absl::StrCat(FormatEnum(*v1::Source_descriptor(), plan.source()), ": ",
                                       plan.source_reason())});
  std::string text = absl::StrCat(FormatNumber(plan.document_count(), "document", "documents"),
                                  " in ", FormatNumber(plan.corpora_size(), "corpus", "corpora"));
  if (plan.shared_corpus_count() > 0) {
    absl::StrAppend(&text, ", ", plan.shared_corpus_count(), " of them in several dimensions");
  }
  table.AddRow({"text", text});
  AddStability(response, table);
  AddCost(response, table);
  table.AddRow({"base", FormatSize(plan.base_size())});
  if (plan.has_vocabulary()) {
    table.AddRow(
        {"vocabulary", FormatVocabulary(plan.vocabulary(), plan.size(), plan.base_size())});
  }
  table.Print(out);
}

// A row "NAME  VALUE", left out when there is no value.
void AddField(Table& table, const std::string& name, const std::string& value) {
  if (!value.empty()) table.AddRow({name, value});
}

std::string FormatVerification(const v1::VerificationResult& verification) {
  if (verification.token_count() == 0) return "";
  return absl::StrFormat("%d tokens: layers within %.1e, logits within %.1e",
                         verification.token_count(), verification.max_layer_error(),
                         verification.max_logit_error());
}

// "least-squares, by-curve: 2.110 nats a held-out token; plain pruning 2.431, base 1.874".
std::string FormatCompensation(const v1::CompensationResult& result) {
  const v1::CompensationCandidate& chosen = result.chosen();
  std::string text = FormatEnum(*v1::Compensation_descriptor(), chosen.compensation());
  if (chosen.compensation() == v1::NONE) text = "none did better than plain pruning";
  if (chosen.widths() > v1::SAME_WIDTH) {
    absl::StrAppend(&text, ", widths ",
                    FormatEnum(*v1::WidthAllocation_descriptor(), chosen.widths()));
  }
  if (result.held_out_token_count() == 0) {
    return absl::StrCat(text,
                        ": not compared with plain pruning, since no text was held out; that ",
                        "takes five documents");
  }
  absl::StrAppendFormat(&text, ": %.3f nats a held-out token", chosen.held_out_nats_per_token());
  for (const v1::CompensationCandidate& candidate : result.candidates()) {
    if (candidate.compensation() == v1::NONE && chosen.compensation() != v1::NONE) {
      absl::StrAppendFormat(&text, "; plain pruning %.3f", candidate.held_out_nats_per_token());
    }
  }
  absl::StrAppendFormat(&text, ", base %.3f", result.base_held_out_nats_per_token());
  return text;
}

std::string FormatSmoke(const v1::VerificationResult& verification) {
  if (verification.generated_token_count() == 0) return "";
  return absl::StrFormat(
      "%d tokens: %.1f%% repetition, base %.1f%%; perplexity %.3f times the base's",
      verification.generated_token_count(), 100 * verification.expert_repetition_rate(),
      100 * verification.base_repetition_rate(), verification.perplexity_ratio());
}

std::string FormatRemoved(const v1::Size& size) {
  return absl::StrCat(FormatShare(size.neuron_ratio()), " of FFN neurons, ",
                      FormatShare(size.parameter_reduction()), " of parameters, ",
                      FormatShare(size.block_parameter_reduction()), " of the layers' parameters");
}

// "relative-mean, from cell"; of a vocabulary that was trimmed alone where it is from.
std::string FormatRule(const v1::Expert& expert) {
  std::string source = FormatEnum(*v1::Source_descriptor(), expert.source());
  if (expert.spec().rule() == v1::RULE_UNSPECIFIED) return source;
  return absl::StrCat(FormatEnum(*v1::Rule_descriptor(), expert.spec().rule()), ", from ", source);
}

// "128 rows of q_proj, 32 of k_proj, ...", of all layers together; "2 of 3 KV head groups stay: "
// in front where they go.
std::string FormatAttention(const v1::AttentionResult& result, const v1::Size& size,
                            const v1::Size& base) {
  const auto sum = [](const auto& counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  };
  const std::string groups =
      size.kv_head_groups() == base.kv_head_groups()
          ? ""
          : absl::StrCat(size.kv_head_groups(), " of ", base.kv_head_groups(),
                         " KV head groups stay: less ");
  return absl::StrFormat("%s%d rows of q_proj, %d of k_proj, %d of v_proj, %d columns of o_proj",
                         groups, sum(result.query_row_counts()), sum(result.key_row_counts()),
                         sum(result.value_row_counts()), sum(result.output_column_counts()));
}

// As --expire-time takes it.
std::string FormatEnd(const v1::Expert& expert) {
  return expert.has_expire_time() ? google::protobuf::util::TimeUtil::ToString(expert.expire_time())
                                  : "-";
}

Table SummaryTable(const v1::Expert& expert, const v1::Budget& asked) {
  Table table({});
  AddField(table, "expert", expert.name());
  AddField(table, "made for", FormatSelection(expert.spec()));
  AddField(table, expert.spec().rule() == 0 ? "text" : "rule", FormatRule(expert));
  if (expert.sigma() > 0) AddField(table, "sigma", absl::StrFormat("%.4f", expert.sigma()));
  AddField(table, "base", FormatSize(expert.base_size()));
  if (asked.size_case() != v1::Budget::SIZE_NOT_SET) AddField(table, "asked", FormatBudget(asked));
  AddField(table, "size", FormatSize(expert.size()));
  AddField(table, "removed", FormatRemoved(expert.size()));
  if (expert.has_attention()) {
    AddField(table, "of attention",
             FormatAttention(expert.attention(), expert.size(), expert.base_size()));
  }
  if (expert.has_vocabulary()) {
    AddField(table, "vocabulary",
             FormatVocabulary(expert.vocabulary(), expert.size(), expert.base_size()));
  }
  if (expert.has_compensation()) {
    AddField(table, "compensation", FormatCompensation(expert.compensation()));
  }
  AddField(table, "protected", FormatProtected(expert.protected_neuron_counts()));
  if (expert.has_convergence()) {
    AddField(table, "stability", FormatConvergence(expert.convergence()));
  }
  AddField(table, "verified", FormatVerification(expert.verification()));
  AddField(table, "writes", FormatSmoke(expert.verification()));
  AddField(table, "mask", expert.mask_digest());
  AddField(table, "folder", expert.uri());
  if (expert.has_expire_time()) AddField(table, "expires", FormatEnd(expert));
  return table;
}

// Tokens for the same text, where a trimmed vocabulary takes more.
void PrintFertility(const Evaluations& evaluations, std::ostream& out) {
  for (const v1::EvaluationResult& result : evaluations) {
    const int64_t more = result.expert_token_count() - result.token_count();
    if (result.expert_token_count() == 0 || more == 0) continue;
    out << Printable(result.corpus())
        << absl::StrFormat(
               " takes %+.2f%% tokens of the trimmed vocabulary (%d to %d)\n",
               100.0 * static_cast<double>(more) / static_cast<double>(result.token_count()),
               result.token_count(), result.expert_token_count());
  }
}

// A warning for each corpus that is not held out, or may not be.
void PrintOverlaps(const Evaluations& evaluations, std::ostream& out) {
  for (const v1::EvaluationResult& result : evaluations) {
    if (!result.has_overlap()) {
      out << "warning: how much of " << Printable(result.corpus())
          << " stands in the expert's calibration text is not known: a corpus of it was deleted\n";
      continue;
    }
    if (result.overlap() <= 0.1) continue;
    out << "warning: " << FormatShare(result.overlap()) << " of " << Printable(result.corpus())
        << " stands in the expert's calibration text as well: it flatters the expert\n";
  }
}

Table AccuracyTable(const Evaluations& evaluations) {
  Table table({"EVALUATION CORPUS", "LABELS", "QUESTIONS", "BASE ACCURACY", "EXPERT", "CHANGE",
               "95% INTERVAL"});
  for (const v1::EvaluationResult& result : evaluations) {
    if (result.choice_count() == 0) continue;
    const double change = result.expert_accuracy() - result.base_accuracy();
    table.AddRow({result.corpus(), FormatLabels(result.labels()),
                  std::to_string(result.choice_count()), FormatShare(result.base_accuracy()),
                  FormatShare(result.expert_accuracy()), absl::StrFormat("%+.1f%%", 100 * change),
                  absl::StrFormat("%+.1f%% to %+.1f%%", 100 * result.accuracy_difference_low(),
                                  100 * result.accuracy_difference_high())});
  }
  return table;
}

void PrintFiles(const v1::Expert& expert, std::ostream& out) {
  if (expert.files().empty()) return;
  Table table({"FILE", "SIZE", "SHA-256"});
  for (const v1::ExpertFile& file : expert.files()) {
    table.AddRow({file.name(), Bytes(file.size_bytes()), file.sha256()});
  }
  out << "\n";
  table.Print(out);
}

}  // namespace

std::string FormatBudget(const v1::Budget& budget) {
  switch (budget.size_case()) {
    case v1::Budget::kNeuronRatio:
      return "remove " + FormatShare(budget.neuron_ratio());
    case v1::Budget::kParameterReduction:
      return absl::StrCat("remove ", FormatShare(budget.parameter_reduction().value()), " of ",
                          budget.parameter_reduction().base() == v1::BLOCKS ? "the layers'" : "all",
                          " parameters");
    case v1::Budget::kMaxParameters:
      return absl::StrCat("at most ", Count(budget.max_parameters()), " parameters");
    case v1::Budget::kMaxBytes:
      return absl::StrCat("at most ", Bytes(budget.max_bytes()));
    case v1::Budget::kWidth:
      return absl::StrCat("width ", budget.width());
    case v1::Budget::kSigma:
      return absl::StrFormat("sigma %g", budget.sigma());
    case v1::Budget::SIZE_NOT_SET:
      break;
  }
  return "-";
}

std::string FormatSelection(const v1::ExpertSpec& spec) {
  return absl::StrJoin(
      spec.select(), " ", [](std::string* out, const v1::DimensionSelection& dimension) {
        absl::StrAppend(out, dimension.key(), "=", absl::StrJoin(dimension.values(), ","));
        if (dimension.weight() != 0 && dimension.weight() != 1) {
          absl::StrAppendFormat(out, " (weight %g)", dimension.weight());
        }
      });
}

void PrintPlans(const v1::PlanExpertResponse& response, std::ostream& out) {
  if (response.plans().empty()) return;
  PrintPlanSource(response, out);
  Table table({"ASKED", "WIDTH", "NEURONS REMOVED", "PARAMETERS", "REMOVED", "SIZE", "SIGMA",
               "LOADS IN", "EXPERT"});
  for (const v1::Plan& plan : response.plans()) {
    const v1::Size& size = plan.size();
    table.AddRow({FormatBudget(plan.budget()), std::to_string(size.width()),
                  FormatShare(size.neuron_ratio()), Count(size.parameter_count()),
                  FormatShare(size.parameter_reduction()), Bytes(size.tensor_bytes()),
                  plan.sigma() > 0 ? absl::StrFormat("%.4f", plan.sigma()) : "-",
                  FormatEngines(plan),
                  absl::StrCat(plan.expert(), plan.expert_exists() ? " (exists)" : "")});
  }
  out << "\n";
  table.Print(out);
  for (const v1::Plan& plan : response.plans()) {
    if (!plan.has_attention()) continue;
    out << FormatBudget(plan.budget()) << " takes "
        << FormatAttention(plan.attention(), plan.size(), plan.base_size()) << "\n";
  }
  for (const v1::Plan& plan : response.plans()) PrintRefusals(plan, out);
}

void PrintEvaluations(const Evaluations& evaluations, std::ostream& out) {
  Table table({"EVALUATION CORPUS", "LABELS", "DOCUMENTS", "BASE BITS/BYTE", "EXPERT", "CHANGE"});
  bool choices = false;
  for (const v1::EvaluationResult& result : evaluations) {
    const double base = result.base_bits_per_byte();
    const double change = base > 0 ? result.expert_bits_per_byte() / base - 1 : 0;
    table.AddRow({result.corpus(), FormatLabels(result.labels()),
                  std::to_string(result.document_count()), absl::StrFormat("%.4f", base),
                  absl::StrFormat("%.4f", result.expert_bits_per_byte()),
                  absl::StrFormat("%+.1f%%", 100 * change)});
    choices |= result.choice_count() > 0;
  }
  table.Print(out);
  if (choices) {
    out << "\n";
    AccuracyTable(evaluations).Print(out);
  }
  PrintFertility(evaluations, out);
  PrintOverlaps(evaluations, out);
}

void PrintExpert(const v1::Expert& expert, std::ostream& out, const v1::Budget& asked) {
  SummaryTable(expert, asked).Print(out);
  if (!expert.evaluations().empty()) {
    out << "\n";
    PrintEvaluations(expert.evaluations(), out);
  }
  PrintFiles(expert, out);
}

Table ExpertTable(const google::protobuf::RepeatedPtrField<v1::Expert>& experts) {
  Table table(
      {"EXPERT", "MADE FOR", "WIDTH", "NEURONS REMOVED", "PARAMETERS", "SIZE", "RULE", "EXPIRES"});
  for (const v1::Expert& expert : experts) {
    table.AddRow({expert.name(), FormatSelection(expert.spec()),
                  std::to_string(expert.size().width()), FormatShare(expert.size().neuron_ratio()),
                  Count(expert.size().parameter_count()), Bytes(expert.size().tensor_bytes()),
                  FormatEnum(*v1::Rule_descriptor(), expert.spec().rule()), FormatEnd(expert)});
  }
  return table;
}

}  // namespace secateur::cli
