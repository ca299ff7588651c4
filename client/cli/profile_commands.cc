// secateur profile ...
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/operation_table.h"
#include "client/cli/wait.h"

namespace secateur::cli {
namespace {

struct CreateOptions {
  std::string model, filter, request_id;
  bool all = false, attention = false, no_wait = false;
  std::vector<std::string> corpora;
  int64_t max_document_tokens = 0;
};

absl::StatusOr<v1::CreateProfileRequest> MakeRequest(const SecateurClient& client,
                                                     const CreateOptions& options) {
  const int ways = static_cast<int>(options.all) + static_cast<int>(!options.filter.empty()) +
                   static_cast<int>(!options.corpora.empty());
  if (ways != 1) {
    return absl::InvalidArgumentError(
        "say which corpora in one way: their names, or --filter, or --all");
  }
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  v1::CreateProfileRequest request;
  request.set_parent(*model);
  for (const std::string& corpus : options.corpora) {
    request.add_corpora(FullName("corpora", corpus));
  }
  request.set_filter(options.all ? "*" : options.filter);
  request.set_max_document_tokens(options.max_document_tokens);
  request.set_attention(options.attention);
  request.set_request_id(options.request_id);
  return request;
}

Table ProfileTable(const google::protobuf::RepeatedPtrField<v1::Profile>& profiles) {
  Table table({"PROFILE", "CORPUS", "DOCUMENTS", "TOKENS", "DROPPED TOKENS", "ATTENTION", "SIZE"});
  for (const v1::Profile& profile : profiles) {
    table.AddRow({profile.name(), profile.corpus(), std::to_string(profile.document_count()),
                  std::to_string(profile.token_count()),
                  std::to_string(profile.dropped_token_count()), profile.attention() ? "yes" : "no",
                  FormatBytes(static_cast<double>(profile.stored_bytes()))});
  }
  return table;
}

absl::Status ProfileCreate(const SecateurClient& client, const CreateOptions& options,
                           Context& context) {
  const auto request = MakeRequest(client, options);
  if (!request.ok()) return request.status();
  const auto operation = client.CreateProfile(*request);
  if (!operation.ok()) return operation.status();
  if (options.no_wait) return PrintStarted(*operation, context);
  const auto response = WaitForResult(*operation, context);
  if (!response.ok()) return response.status();
  if (absl::Status status = Print(*response, ProfileTable(response->profiles()), context);
      !status.ok() || context.json) {
    return status;
  }
  context.out << FormatNumber(response->profiles_size(), "profile", "profiles") << ", "
              << response->cached_count() << " of them made before\n";
  return absl::OkStatus();
}

absl::Status ProfileList(const SecateurClient& client, const ModelOptions& options,
                         Context& context) {
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  const auto profiles = client.ListProfiles(*model);
  if (!profiles.ok()) return profiles.status();
  v1::ListProfilesResponse all;
  all.mutable_profiles()->Add(profiles->begin(), profiles->end());
  return Print(all, ProfileTable(all.profiles()), context);
}

void AddCreate(CLI::App& group, Context& context) {
  const auto options = std::make_shared<CreateOptions>();
  CLI::App* command =
      AddCommand(group, "create", "Run corpora through a base model, once each",
                 "  secateur profile create --all\n"
                 "  secateur profile create --model smollm2 --filter 'labels.language = \"en\"'\n"
                 "  secateur profile create c0123456789abcdef0123456789abcdef01234567",
                 context, options, &ProfileCreate);
  AddModelOption(*command, options->model);
  command->add_option("CORPUS", options->corpora, "Names of calibration corpora");
  command->add_option("--filter", options->filter,
                      "All calibration corpora that match: labels.KEY = \"VALUE\", joined by AND");
  command->add_flag("--all", options->all, "All calibration corpora");
  command->add_option("--max-document-tokens", options->max_document_tokens,
                      "Tokens of a document that count (server's default 512)");
  command->add_flag("--attention", options->attention,
                    "Statistics of attention as well, for expert create --attention; takes longer");
  AddOperationOptions(*command, options->request_id, options->no_wait);
}

}  // namespace

void AddProfileCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(program, "profile", "What a base model uses on each corpus");
  AddCreate(*group, context);
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* list = AddCommand(*group, "list", "The profiles of a base model",
                              "  secateur profile list", context, options, &ProfileList);
  AddModelOption(*list, options->model);
}

}  // namespace secateur::cli
