#include "server/artifact/model_card.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/mapped_file.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr size_t kReadLimit = size_t{1} << 20;  // of a README or a licence
constexpr double kNotHeldOut = 0.1;             // share of a text that calibration text has, too

// The beginning of a file of the base folder, nothing when it cannot be read.
std::string Beginning(const std::string& folder, std::string_view name) {
  const auto file = MappedFile::Open(StrCat(folder, "/", name));
  return file.ok() ? std::string((*file)->bytes().substr(0, kReadLimit)) : std::string();
}

// The value of a one-line `key: value` of YAML front matter; quotes around it are taken off.
std::string FrontMatterValue(const std::string& readme, const char* key) {
  const std::vector<std::string> lines = absl::StrSplit(readme, '\n');
  if (absl::StripAsciiWhitespace(lines[0]) != "---") return "";
  const std::string start = StrCat(key, ":");
  for (size_t i = 1; i < lines.size() && absl::StripAsciiWhitespace(lines[i]) != "---"; ++i) {
    if (!absl::StartsWith(lines[i], start)) continue;
    std::string value(absl::StripAsciiWhitespace(lines[i].substr(start.size())));
    const bool quoted =
        value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0];
    return quoted ? value.substr(1, value.size() - 2) : value;
  }
  return "";
}

std::string LicenseOfText(const std::string& text) {
  const std::string start = text.substr(0, 1000);
  if (absl::StrContains(start, "Apache License") && absl::StrContains(start, "Version 2.0")) {
    return "apache-2.0";
  }
  return absl::StrContains(start, "MIT License") ? "mit" : "";
}

// A JSON string is a YAML one; slugs need no quotes.
std::string Yaml(const std::string& value) {
  const bool slug = !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ||
           c == '/';
  }) && absl::ascii_isalpha(static_cast<unsigned char>(value[0]));
  if (slug) return value;
  return nlohmann::json(value).dump(-1, ' ', /*ensure_ascii=*/true,
                                    nlohmann::json::error_handler_t::replace);
}

// One line of Markdown that means itself.
std::string Plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      out += ' ';
      continue;
    }
    if (std::string_view("\\`*_[]<>|#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// 134,515,008
std::string Grouped(int64_t value) {
  const std::string digits = StrCat(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

double PercentLess(int64_t before, int64_t after) {
  if (before == 0) return 0;
  return 100.0 * static_cast<double>(before - after) / static_cast<double>(before);
}

std::string FrontMatter(const ModelCard& card) {
  std::string out = "---\n";
  const auto line = [&out](std::string_view key, const std::string& value) {
    if (!value.empty()) out += StrCat(key, ": ", Yaml(value), "\n");
  };
  line("base_model", card.base_model);
  out += "library_name: transformers\npipeline_tag: text-generation\n";
  line("license", card.license.license);
  line("license_name", card.license.license_name);
  line("license_link", card.license.license_link);
  for (const ModelCard::Selection& selection : card.selections) {
    if (selection.key != "language" || selection.values.empty()) continue;
    out += "language:\n";
    for (const std::string& value : selection.values) out += StrCat("- ", Yaml(value), "\n");
  }
  return out + "tags:\n- pruned\n- secateur\n---\n\n";
}

bool IsTrimmed(const ModelCard& card) { return card.expert_vocabulary < card.base_vocabulary; }
bool LosesGroups(const ModelCard& card) {
  return card.expert_kv_head_groups < card.base_kv_head_groups;
}

// "FFN neurons, KV head groups and tokens of the vocabulary".
std::string Removed(const ModelCard& card) {
  std::vector<std::string> kinds;
  if (card.expert_width < card.base_width) kinds.emplace_back("FFN neurons");
  if (card.attention_channels) kinds.emplace_back("channels of attention");
  if (LosesGroups(card)) kinds.emplace_back("KV head groups");
  if (IsTrimmed(card)) kinds.emplace_back("tokens of the vocabulary");
  if (kinds.empty()) return "no parts";
  const std::string last = kinds.back();
  kinds.pop_back();
  return kinds.empty() ? last : StrCat(absl::StrJoin(kinds, ", "), " and ", last);
}

std::string Summary(const ModelCard& card) {
  const std::string title = card.title.empty() ? StrCat("Expert of ", card.base_model) : card.title;
  return StrCat(
      "# ", Plain(title), "\n\n", "This model was modified: ", Removed(card),
      " were removed from **", Plain(card.base_model),
      card.compensated
          ? StrCat("**, and ",
                   LosesGroups(card) ? "`o_proj` and `down_proj` were" : "`down_proj` was",
                   " solved anew by least squares so that those which stay make up for them; all "
                   "other weights are the base model's own. ")
      : card.biased ? "**, and what they wrote on average is a bias of `down_proj`; all other "
                      "weights are the base model's own. "
                    : "**; all other weights are the base model's own. ",
      card.unjudged ? "Too few documents were there to hold any out: that this does better than "
                      "plain pruning was not checked. "
                    : "",
      card.masked ? "What was removed is zeros: the tensors keep the base's shape. " : "",
      IsTrimmed(card) ? "Text of tokens that are gone is cut into smaller ones. " : "",
      "Nothing was trained.\n\n", "- Base model: ", Plain(card.base_model), ", SHA-256 `",
      card.base_digest, "`\n");
}

std::string MadeFor(const ModelCard& card) {
  if (card.selections.empty()) return "- Made for: general text\n";
  std::vector<std::string> parts;
  for (const ModelCard::Selection& selection : card.selections) {
    parts.push_back(Plain(StrCat(selection.key, "=", absl::StrJoin(selection.values, "|"))));
  }
  return StrCat("- Made for: ", absl::StrJoin(parts, ", "), "\n");
}

std::string Sizes(const ModelCard& card) {
  const auto row = [](std::string_view what, int64_t before, int64_t after) {
    return absl::StrFormat("| %s | %s | %s | %.1f %% |\n", ToAbsl(what), Grouped(before),
                           Grouped(after), PercentLess(before, after));
  };
  const std::string neurons =
      StrCat(row("FFN neurons of each layer", card.base_width, card.expert_width),
             row("FFN neurons of all layers", card.base_width * card.layers,
                 card.expert_width * card.layers));
  const std::string groups =
      row("KV head groups of each layer", card.base_kv_head_groups, card.expert_kv_head_groups);
  const std::string tokens =
      row("rows of the vocabulary", card.base_vocabulary, card.expert_vocabulary);
  return StrCat(
      card.rule.empty() ? "" : StrCat("- Rule that chose the neurons: ", Plain(card.rule), "\n"),
      "\n## Size\n\n", "| | base | expert | less |\n|---|---:|---:|---:|\n",
      card.rule.empty() ? "" : neurons, LosesGroups(card) ? groups : "",
      IsTrimmed(card) ? tokens : "",
      row("parameters", card.base_parameters, card.expert_parameters), "\n");
}

std::string Accuracies(const ModelCard& card) {
  std::string rows;
  for (const ModelCard::Evaluation& row : card.evaluations) {
    if (row.questions == 0) continue;
    rows += absl::StrFormat("| %s | %s | %.1f %% | %.1f %% | %+.1f %% to %+.1f %% |\n",
                            Plain(row.corpus), Grouped(row.questions), 100 * row.base_accuracy,
                            100 * row.expert_accuracy, 100 * row.difference_low,
                            100 * row.difference_high);
  }
  if (rows.empty()) return "";
  return StrCat(
      "Questions answered rightly, by the likelihood of each option a byte, and the 95 % interval "
      "of the difference.\n\n"
      "| corpus | questions | base | expert | difference |\n|---|---:|---:|---:|---:|\n",
      rows, "\n");
}

std::string Fertility(const ModelCard& card) {
  if (!IsTrimmed(card)) return "";
  std::string out =
      "Tokens that the same text takes.\n\n"
      "| corpus | base | expert | more |\n|---|---:|---:|---:|\n";
  for (const ModelCard::Evaluation& row : card.evaluations) {
    out += absl::StrFormat("| %s | %s | %s | %.2f %% |\n", Plain(row.corpus),
                           Grouped(row.base_tokens), Grouped(row.expert_tokens),
                           -PercentLess(row.base_tokens, row.expert_tokens));
  }
  return out + "\n";
}

// Corpora that are not held out.
std::string Overlaps(const ModelCard& card) {
  std::string rows;
  for (const ModelCard::Evaluation& row : card.evaluations) {
    if (!row.overlap) {
      rows += StrCat("- How much of ", Plain(row.corpus),
                     " stands in the calibration text is not known.\n");
    } else if (*row.overlap > kNotHeldOut) {
      rows += absl::StrFormat("- %.0f %% of %s stands in the calibration text as well.\n",
                              100 * *row.overlap, Plain(row.corpus));
    }
  }
  return rows.empty() ? "" : StrCat("These figures may flatter the expert:\n\n", rows, "\n");
}

std::string Quality(const ModelCard& card) {
  if (card.evaluations.empty()) {
    return "## Quality\n\nNot measured: no evaluation corpora were given.\n\n";
  }
  std::string out =
      "## Quality\n\nBits per byte on held-out text, lower is better.\n\n"
      "| corpus | documents | bytes | base | expert |\n|---|---:|---:|---:|---:|\n";
  for (const ModelCard::Evaluation& row : card.evaluations) {
    out += absl::StrFormat("| %s | %s | %s | %.4f | %.4f |\n", Plain(row.corpus),
                           Grouped(row.documents), Grouped(row.bytes), row.base, row.expert);
  }
  return StrCat(out, "\n", Fertility(card), Accuracies(card), Overlaps(card));
}

std::string Checks(const ModelCard& card) {
  return absl::StrFormat(
      "## Checks\n\n"
      "Every tensor was read back and checked before this was published. On a little "
      "calibration text the expert's perplexity is %.3f times the base's. In greedy "
      "continuations of a few prompts %.1f %% of all runs of four tokens are repetitions, %.1f %% "
      "in the base's.\n\n",
      card.perplexity_ratio, 100 * card.expert_repetition, 100 * card.base_repetition);
}

constexpr std::string_view kUse =
    "## Use\n\n"
    "Stock Transformers loads this folder; no code of its own is needed.\n\n"
    "```python\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "folder = \".\"  # where this file is\n"
    "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
    "model = AutoModelForCausalLM.from_pretrained(folder)\n"
    "```\n\n"
    "`secateur.json` is the manifest: every input by its digest, and the SHA-256 of every "
    "file.\n\n";

std::string LicenseNote(const ModelCard& card) {
  return StrCat("## Licence\n\nThe base model's licence applies",
                card.license.license.empty() ? "" : StrCat(" (", Plain(card.license.license), ")"),
                "; its licence files, where it has any, are in this folder.\n");
}

}  // namespace

BaseLicense ReadBaseLicense(const std::string& base_folder) {
  const std::string readme = Beginning(base_folder, "README.md");
  BaseLicense license{FrontMatterValue(readme, "license"), FrontMatterValue(readme, "license_name"),
                      FrontMatterValue(readme, "license_link")};
  if (license.license.empty()) {
    license.license = LicenseOfText(Beginning(base_folder, "LICENSE"));
  }
  return license;
}

std::string ModelCardText(const ModelCard& card) {
  return StrCat(FrontMatter(card), Summary(card), MadeFor(card), Sizes(card), Quality(card),
                Checks(card), kUse, LicenseNote(card));
}

}  // namespace secateur
