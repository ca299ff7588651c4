// secateur dimension ...
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/parse.h"

namespace secateur::cli {
namespace {

struct CompareOptions {
  std::string model, remove;
  std::vector<std::string> values;
  int64_t max_document_tokens = 0;
  bool layers = false;
};

absl::Status DimensionList(const SecateurClient& client, const ModelOptions& options,
                           Context& context) {
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  const auto dimensions = client.ListDimensions(*model);
  if (!dimensions.ok()) return dimensions.status();
  v1::ListDimensionsResponse all;
  Table table({"KEY", "VALUE", "CORPORA", "PROFILED", "DOCUMENTS", "TOKENS"});
  for (const v1::Dimension& dimension : *dimensions) {
    *all.add_dimensions() = dimension;
    table.AddRow({dimension.key(), dimension.value(), std::to_string(dimension.corpus_count()),
                  std::to_string(dimension.profiled_corpus_count()),
                  std::to_string(dimension.document_count()),
                  std::to_string(dimension.token_count())});
  }
  return Print(all, table, context);
}

std::string FormatValue(const v1::DimensionValue& value) {
  return absl::StrCat(value.key(), "=", value.value());
}

// "12 (0.41)".
std::string LeastAlikeLayer(const v1::DimensionComparison& pair) {
  const auto& layers = pair.layer_jaccards();
  const auto least = std::min_element(layers.begin(), layers.end());
  if (least == layers.end()) return "-";
  return absl::StrFormat("%d (%.2f)", least - layers.begin(), *least);
}

Table PairTable(const v1::CompareDimensionsResponse& response) {
  Table table(
      {"FIRST", "SECOND", "OVERLAP", "LEAST IN LAYER", "RANK CORRELATION", "SHARED CORPORA"});
  for (const v1::DimensionComparison& pair : response.comparisons()) {
    table.AddRow({FormatValue(pair.first()), FormatValue(pair.second()),
                  absl::StrFormat("%.3f", pair.jaccard()), LeastAlikeLayer(pair),
                  absl::StrFormat("%.3f", pair.rank_correlation()),
                  std::to_string(pair.shared_corpus_count())});
  }
  return table;
}

Table LayerTable(const v1::CompareDimensionsResponse& response) {
  Table table({"FIRST", "SECOND", "LAYER", "OVERLAP", "RANK CORRELATION"});
  for (const v1::DimensionComparison& pair : response.comparisons()) {
    const int layers = std::min(pair.layer_jaccards_size(), pair.layer_rank_correlations_size());
    for (int layer = 0; layer < layers; ++layer) {
      table.AddRow({FormatValue(pair.first()), FormatValue(pair.second()), std::to_string(layer),
                    absl::StrFormat("%.3f", pair.layer_jaccards(layer)),
                    absl::StrFormat("%.3f", pair.layer_rank_correlations(layer))});
    }
  }
  return table;
}

absl::StatusOr<v1::CompareDimensionsRequest> MakeRequest(const CompareOptions& options) {
  if (options.values.size() < 2) {
    return absl::InvalidArgumentError(
        "name two or more dimension values to compare: language=ko language=ja");
  }
  v1::CompareDimensionsRequest request;
  for (const std::string& text : options.values) {
    const auto pair = ParseKeyValue("VALUE", text);
    if (!pair.ok()) return pair.status();
    v1::DimensionValue& value = *request.add_values();
    value.set_key(pair->first);
    value.set_value(pair->second);
  }
  if (!options.remove.empty()) {
    const auto share = ParseShare("--remove", options.remove);
    if (!share.ok()) return share.status();
    request.set_neuron_ratio(*share);
  }
  request.set_max_document_tokens(options.max_document_tokens);
  return request;
}

absl::Status DimensionCompare(const SecateurClient& client, const CompareOptions& options,
                              Context& context) {
  auto request = MakeRequest(options);
  if (!request.ok()) return request.status();
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  request->set_parent(*model);
  const auto response = client.CompareDimensions(*request);
  if (!response.ok()) return response.status();
  if (context.json) return PrintJson(*response, context);
  PairTable(*response).Print(context.out);
  if (options.layers) {
    context.out << "\n";
    LayerTable(*response).Print(context.out);
  }
  context.out << absl::StrFormat(
      "overlap: neurons that both keep over those that either keeps, %d a layer; by chance %.3f\n",
      response->width(), response->jaccard_by_chance());
  return absl::OkStatus();
}

void AddCompare(CLI::App& group, Context& context) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = AddCommand(
      group, "compare", "How alike dimension values are in the neurons they need",
      "  secateur dimension compare language=ko language=ja\n"
      "  secateur dimension compare domain=legal domain=medical task=qa --remove 25% --layers",
      context, options, &DimensionCompare);
  command->add_option("VALUE", options->values, "Two or more, KEY=VALUE")->required();
  AddModelOption(*command, options->model);
  command->add_option("--remove", options->remove,
                      "Share of FFN neurons that their experts would lack (server's default 35%)");
  command->add_option("--max-document-tokens", options->max_document_tokens,
                      "Which profiles: tokens of a document that count (server's default 512)");
  command->add_flag("--layers", options->layers, "Show every layer");
}

}  // namespace

void AddDimensionCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(program, "dimension", "Labels and what is known about them");
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* list =
      AddCommand(*group, "list", "Every label, with its corpora and profiles",
                 "  secateur dimension list --model smollm2", context, options, &DimensionList);
  AddModelOption(*list, options->model);
  AddCompare(*group, context);
}

}  // namespace secateur::cli
