// secateur model ...
#include "client/cli/commands.h"
#include "client/cli/format.h"

namespace secateur::cli {
namespace {

struct NoOptions {};

absl::Status ModelList(const SecateurClient& client, const NoOptions&, Context& context) {
  const auto models = client.ListModels();
  if (!models.ok()) return models.status();
  v1::ListModelsResponse all;
  Table table({"MODEL", "STATE", "FAMILY", "PARAMETERS", "IN LAYERS", "LAYERS", "NEURONS", "MEMORY",
               "TYPE", "DEVICE"});
  for (const v1::Model& model : *models) {
    *all.add_models() = model;
    table.AddRow({model.name(), FormatEnum(*v1::Model::State_descriptor(), model.state()),
                  model.family(), FormatCount(static_cast<double>(model.parameter_count())),
                  FormatCount(static_cast<double>(model.block_parameter_count())),
                  std::to_string(model.layer_count()), std::to_string(model.intermediate_size()),
                  FormatBytes(static_cast<double>(model.resident_bytes())), model.compute_type(),
                  model.device()});
  }
  return Print(all, table, context);
}

}  // namespace

void AddModelCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(program, "model", "Base models");
  AddCommand(*group, "list", "The base models that the server holds",
             "  secateur model list\n"
             "  secateur model list --output json",
             context, std::make_shared<NoOptions>(), &ModelList);
}

}  // namespace secateur::cli
