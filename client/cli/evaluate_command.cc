// secateur expert evaluate
#include "client/cli/commands.h"
#include "client/cli/expert_report.h"
#include "client/cli/operation_table.h"
#include "client/cli/wait.h"

namespace secateur::cli {
namespace {

struct EvaluateOptions {
  std::string name, request_id;
  std::vector<std::string> corpora;
  int64_t max_document_tokens = 0;
  bool no_wait = false;
};

absl::Status ExpertEvaluate(const SecateurClient& client, const EvaluateOptions& options,
                            Context& context) {
  const auto name = ResolveExpert(client, options.name);
  if (!name.ok()) return name.status();
  v1::EvaluateExpertRequest request;
  request.set_name(*name);
  for (const std::string& corpus : options.corpora) {
    request.add_corpora(FullName("corpora", corpus));
  }
  request.set_max_document_tokens(options.max_document_tokens);
  request.set_request_id(options.request_id);
  const auto operation = client.EvaluateExpert(request);
  if (!operation.ok()) return operation.status();
  if (options.no_wait) return PrintStarted(*operation, context);
  const auto response = WaitForResult(*operation, context);
  if (!response.ok()) return response.status();
  if (context.json) return PrintJson(*response, context);
  PrintEvaluations(response->evaluations(), context.out);
  return absl::OkStatus();
}

}  // namespace

void AddEvaluateCommand(CLI::App& group, Context& context) {
  const auto options = std::make_shared<EvaluateOptions>();
  CLI::App* command =
      AddCommand(group, "evaluate", "Measure an expert and its base on held-out text",
                 "  secateur expert evaluate e0123456789abcdef0123456789abcdef01234567 \\\n"
                 "      --corpus c0123456789abcdef0123456789abcdef01234567\n"
                 "  secateur corpus list --filter 'purpose = EVALUATION'",
                 context, options, &ExpertEvaluate);
  command->add_option("EXPERT", options->name, "Name of the expert, or its id")->required();
  AddRepeated(*command, "--corpus", options->corpora,
              "Evaluation corpus: bits per byte, and accuracy where documents have choices")
      ->required();
  command->add_option("--max-document-tokens", options->max_document_tokens,
                      "Tokens of a document that are scored (server's default 257)");
  AddOperationOptions(*command, options->request_id, options->no_wait);
}

}  // namespace secateur::cli
