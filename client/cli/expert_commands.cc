// secateur expert ...
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/expert_report.h"
#include "client/cli/expert_spec.h"
#include "client/cli/format.h"
#include "client/cli/operation_table.h"
#include "client/cli/parse.h"
#include "client/cli/progress.h"
#include "client/cli/wait.h"
#include "google/protobuf/empty.pb.h"

namespace secateur::cli {
namespace {

constexpr char kExampleName[] = "models/smollm2/experts/e0123456789abcdef0123456789abcdef01234567";

struct CreateOptions {
  SpecOptions spec;
  std::string output_uri, request_id, cache_policy, ttl, expire_time;
  std::vector<std::string> gates;
  bool validate_only = false, no_wait = false;
};
struct DownloadOptions {
  std::string name, folder;
};

absl::Status ShowExpert(const v1::Expert& expert, Context& context, const v1::Budget& asked = {}) {
  if (context.json) return PrintJson(expert, context);
  PrintExpert(expert, context.out, asked);
  return absl::OkStatus();
}

absl::Status ExpertPlan(const SecateurClient& client, const SpecOptions& options,
                        Context& context) {
  const auto spec = MakeSpec(options);
  if (!spec.ok()) return spec.status();
  const auto budgets = MakeBudgets(options);
  if (!budgets.ok()) return budgets.status();
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  v1::PlanExpertRequest request;
  request.set_parent(*model);
  *request.mutable_spec() = *spec;
  request.mutable_budgets()->Add(budgets->begin(), budgets->end());
  const auto response = client.PlanExpert(request);
  if (!response.ok()) return response.status();
  if (context.json) return PrintJson(*response, context);
  PrintPlans(*response, context.out);
  return absl::OkStatus();
}

// "20%" for every evaluation corpus, or "CORPUS=20%" for one.
absl::StatusOr<v1::GateEntry> ParseGate(const std::string& text) {
  v1::GateEntry entry;
  const size_t sign = text.find('=');
  if (sign != std::string::npos) entry.set_corpus(FullName("corpora", text.substr(0, sign)));
  const auto rise = ParseRise("--gate", sign == std::string::npos ? text : text.substr(sign + 1));
  if (!rise.ok()) return rise.status();
  entry.set_max_rise(*rise);
  return entry;
}

absl::Status AddExpiration(const CreateOptions& options, v1::CreateExpertRequest& request) {
  if (!options.ttl.empty()) {
    const auto ttl = ParseTimeSpan("--ttl", options.ttl);
    if (!ttl.ok()) return ttl.status();
    *request.mutable_ttl() = *ttl;
  } else if (!options.expire_time.empty()) {
    const auto time = ParseTime("--expire-time", options.expire_time);
    if (!time.ok()) return time.status();
    *request.mutable_expire_time() = *time;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CreateExpertRequest> MakeRequest(const CreateOptions& options) {
  const auto spec = MakeSpec(options.spec);
  if (!spec.ok()) return spec.status();
  const auto budgets = MakeBudgets(options.spec);
  if (!budgets.ok()) return budgets.status();
  if (budgets->size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        budgets->size(), " sizes are given; an expert has one (secateur expert plan compares)"));
  }
  const auto policy =
      ParseEnum("--cache-policy", options.cache_policy, *v1::CachePolicy_descriptor());
  if (!policy.ok()) return policy.status();
  v1::CreateExpertRequest request;
  *request.mutable_spec() = *spec;
  if (!budgets->empty()) *request.mutable_spec()->mutable_budget() = budgets->front();
  request.set_output_uri(options.output_uri);
  request.set_request_id(options.request_id);
  request.set_validate_only(options.validate_only);
  request.set_cache_policy(static_cast<v1::CachePolicy>(*policy));
  for (const std::string& text : options.gates) {
    const auto entry = ParseGate(text);
    if (!entry.ok()) return entry.status();
    *request.add_gate() = *entry;
  }
  absl::Status expiration = AddExpiration(options, request);
  if (!expiration.ok()) return expiration;
  return request;
}

absl::Status ExpertCreate(const SecateurClient& client, const CreateOptions& options,
                          Context& context) {
  auto request = MakeRequest(options);
  if (!request.ok()) return request.status();
  const auto model = ResolveModel(client, options.spec.model);
  if (!model.ok()) return model.status();
  request->set_parent(*model);
  const auto operation = client.CreateExpert(*request);
  if (!operation.ok()) return operation.status();
  if (options.no_wait) return PrintStarted(*operation, context);
  const auto expert = WaitForResult(*operation, context);
  if (!expert.ok()) return expert.status();
  return ShowExpert(*expert, context, request->spec().budget());
}

absl::Status ExpertList(const SecateurClient& client, const ModelOptions& options,
                        Context& context) {
  const auto model = ResolveModel(client, options.model);
  if (!model.ok()) return model.status();
  const auto experts = client.ListExperts(*model);
  if (!experts.ok()) return experts.status();
  v1::ListExpertsResponse all;
  all.mutable_experts()->Add(experts->begin(), experts->end());
  return Print(all, ExpertTable(all.experts()), context);
}

absl::StatusOr<v1::Expert> FindExpert(const SecateurClient& client, const std::string& name) {
  const auto full_name = ResolveExpert(client, name);
  if (!full_name.ok()) return full_name.status();
  return client.GetExpert(*full_name);
}

absl::Status ExpertGet(const SecateurClient& client, const NameOptions& options, Context& context) {
  const auto expert = FindExpert(client, options.name);
  if (!expert.ok()) return expert.status();
  return ShowExpert(*expert, context);
}

absl::Status ExpertDelete(const SecateurClient& client, const NameOptions& options,
                          Context& context) {
  const auto name = ResolveExpert(client, options.name);
  if (!name.ok()) return name.status();
  if (absl::Status status = client.DeleteExpert(*name); !status.ok()) return status;
  Table table({});
  table.AddRow({"deleted " + *name});
  return Print(google::protobuf::Empty(), table, context);
}

absl::Status ExpertDownload(const SecateurClient& client, const DownloadOptions& options,
                            Context& context) {
  const auto expert = FindExpert(client, options.name);
  if (!expert.ok()) return expert.status();
  // From what the user typed: a server does not choose folders here.
  const std::string id = options.name.substr(options.name.rfind('/') + 1);
  const std::string folder = options.folder.empty() ? id : options.folder;
  absl::Status status;
  {
    ProgressBar bar(context.err, context.err_is_terminal);
    status = client.DownloadExpert(
        *expert, folder, [&bar](const std::string& file, int64_t done, int64_t total) {
          const double share =
              total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
          bar.Show(share, absl::StrCat("download  ", Printable(file), "  ",
                                       FormatBytes(static_cast<double>(done)), " of ",
                                       FormatBytes(static_cast<double>(total))));
        });
  }
  if (!status.ok()) return status;
  if (context.json) return PrintJson(*expert, context);
  context.out << FormatNumber(expert->files_size(), "file", "files")
              << ", sizes and SHA-256 checked, in " << Printable(folder) << "\n";
  return absl::OkStatus();
}

void AddPlan(CLI::App& group, Context& context) {
  const auto options = std::make_shared<SpecOptions>();
  CLI::App* command =
      AddCommand(group, "plan", "What experts of one or more sizes would be; makes nothing",
                 "  secateur expert plan --language ko --domain legal --remove 20% --remove 35%\n"
                 "  secateur expert plan --task qa --rule cus-prun --sigma 0.9 --target vllm",
                 context, options, &ExpertPlan);
  AddSpecOptions(*command, *options);
}

void AddCreate(CLI::App& group, Context& context) {
  const auto options = std::make_shared<CreateOptions>();
  CLI::App* command = AddCommand(
      group, "create", "Make an expert",
      "  secateur expert create --language ko --domain legal --task summarization --remove 35%\n"
      "  secateur expert create --language ko --language ja --weight language=2 \\\n"
      "      --domain legal --remove-parameters 20% --of blocks --evaluate c0123... --gate 20%\n"
      "  secateur expert create --task qa --remove 35% --ttl 24h\n"
      "  secateur expert create --domain math --max-bytes 200MiB --no-wait --output json",
      context, options, &ExpertCreate);
  AddSpecOptions(*command, options->spec);
  command->add_option("--output-uri", options->output_uri,
                      "URI of an empty or missing folder that gets a copy: file: on the server, or "
                      "s3:, gs:, abfs:; within its --allow-write");
  AddRepeated(
      *command, "--gate", options->gates,
      "Largest rise of bits per byte over the base's for the expert to be published: 20% on "
      "every --evaluate corpus, or CORPUS=20% on one");
  CLI::Option* ttl =
      command->add_option("--ttl", options->ttl,
                          "How long the server keeps it from when it is there: 90m, 24h, 7d (else "
                          "until it is deleted); "
                          "one that exists may get a longer life by this, never a shorter one");
  command
      ->add_option("--expire-time", options->expire_time,
                   "The same as a time: 2026-12-31T23:59:59Z")
      ->excludes(ttl);
  command->add_option("--cache-policy", options->cache_policy,
                      "use (default), refresh or only-if-cached");
  command->add_flag("--validate-only", options->validate_only, "Check the request, make nothing");
  AddOperationOptions(*command, options->request_id, options->no_wait);
}

void AddNamed(CLI::App& group, Context& context, const std::string& name, const std::string& what,
              absl::Status (*run)(const SecateurClient&, const NameOptions&, Context&)) {
  const auto options = std::make_shared<NameOptions>();
  CLI::App* command =
      AddCommand(group, name, what, absl::StrCat("  secateur expert ", name, " ", kExampleName),
                 context, options, run);
  command->add_option("EXPERT", options->name, "Name of the expert, or its id")->required();
}

void AddDownload(CLI::App& group, Context& context) {
  const auto options = std::make_shared<DownloadOptions>();
  CLI::App* command = AddCommand(
      group, "download", "Bring an expert's files here, every byte checked; a repeat goes on",
      absl::StrCat("  secateur expert download ", kExampleName, " my-expert"), context, options,
      &ExpertDownload);
  command->add_option("EXPERT", options->name, "Name of the expert, or its id")->required();
  command->add_option("FOLDER", options->folder, "Made if missing; the expert's id if not given");
}

}  // namespace

void AddExpertCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(program, "expert", "Small models made out of a base model");
  AddPlan(*group, context);
  AddCreate(*group, context);
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* list =
      AddCommand(*group, "list", "The experts of a base model",
                 "  secateur expert list --model smollm2", context, options, &ExpertList);
  AddModelOption(*list, options->model);
  AddNamed(*group, context, "get", "One expert, with its sizes, quality and files", &ExpertGet);
  AddNamed(*group, context, "delete", "Delete an expert from the server", &ExpertDelete);
  AddDownload(*group, context);
  AddEvaluateCommand(*group, context);
}

}  // namespace secateur::cli
