// The program as a whole: options, errors, exit codes, and the commands without long operations.
#include <cstdlib>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/client/cli_runner.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::vector<std::vector<std::string>> kCommands = {
    {"model", "list"},      {"corpus", "upload"},     {"corpus", "list"},    {"corpus", "get"},
    {"corpus", "delete"},   {"corpus", "label"},      {"profile", "create"}, {"profile", "list"},
    {"dimension", "list"},  {"dimension", "compare"}, {"expert", "plan"},    {"expert", "create"},
    {"expert", "list"},     {"expert", "evaluate"},   {"expert", "get"},     {"expert", "download"},
    {"expert", "delete"},   {"operation", "list"},    {"operation", "get"},  {"operation", "wait"},
    {"operation", "watch"}, {"operation", "cancel"}};

TEST_F(CliTest, ShowsHelpWithExamplesForEveryCommand) {
  for (std::vector<std::string> args : kCommands) {
    const std::string command = "secateur " + args[0] + " " + args[1];
    args.push_back("--help");
    EXPECT_EQ(RunAlone(args), kOk) << command;
    EXPECT_THAT(out_, HasSubstr("Examples:\n")) << command;
    EXPECT_THAT(out_.substr(out_.find("Examples:")), HasSubstr(command));
  }
}

TEST_F(CliTest, ShowsItsVersionAndItsExitCodes) {
  EXPECT_EQ(RunAlone({"--version"}), kOk);
  EXPECT_THAT(out_, testing::MatchesRegex("secateur [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_EQ(RunAlone({"--help"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("Exit codes:"), HasSubstr("  130  Ctrl-C")));
}

TEST_F(CliTest, SaysWhatIsWrongWithItsUsage) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> cases = {
      {{}, "subcommand is required"},
      {{"prune"}, "unknown command or option: prune"},
      {{"expert", "prune"}, "unknown command or option: prune"},
      {{"expert"}, "subcommand is required"},
      {{"expert", "get"}, "EXPERT is required"},
      {{"dimension", "compare", "language=ko"}, "two or more"},
      {{"dimension", "compare", "language=ko", "ja"}, "KEY=VALUE"},
      {{"expert", "evaluate", "e1"}, "--corpus is required"},
      {{"expert", "create", "--language", "ko", "--remove", "1%", "--gate", "c1=much"},
       "20% or 0.2"},
      {{"model", "list", "--colour"}, "--colour"},
      {{"model", "list", "--output", "xml"}, "xml"},
      {{"corpus", "upload"}, "--manifest"},
      {{"corpus", "upload", "f", "--manifest", "m"}, "excludes"},
      {{"corpus", "upload", "f", "--label", "language"}, "KEY=VALUE"},
      {{"corpus", "upload", "f", "--purpose", "training"}, "calibration, evaluation"},
      {{"corpus", "upload", "f", "--format", "parquet"}, "json-lines, text"},
      {{"corpus", "label", "c1"}, "--label is required"},
      {{"profile", "create"}, "--all"},
      {{"profile", "create", "--all", "c1"}, "one way"},
      {{"expert", "plan", "--remove", "35%"}, "--language"},
      {{"expert", "plan", "--language", "ko"}, "--remove 35%"},
      {{"expert", "plan", "--language", "ko", "--remove", "35"}, "35% or 0.35"},
      {{"expert", "plan", "--select", "ko", "--remove", "35%"}, "KEY=VALUE"},
      {{"expert", "plan", "--language", "ko", "--of", "blocks", "--remove", "1%"}, "give both"},
      {{"expert", "plan", "--language", "ko", "--weight", "task=2", "--remove", "1%"}, "\"task\""},
      {{"expert", "plan", "--language", "ko", "--weight", "language=0", "--remove", "1%"},
       "above 0"},
      {{"expert", "plan", "--language", "ko", "--rule", "magic", "--remove", "1%"}, "cus-prun"},
      {{"expert", "plan", "--language", "ko", "--max-bytes", "1M"}, "250MiB"},
      {{"expert", "create", "--language", "ko", "--remove", "1%", "--width", "64"}, "2 sizes"},
      {{"model", "list", "--cert", "c.pem"}, "ca_file"},
  };
  for (const auto& [args, complaint] : cases) {
    EXPECT_EQ(Run(args), kUsage) << testing::PrintToString(args);
    EXPECT_THAT(err_, HasSubstr(complaint));
    EXPECT_EQ(out_, "");
  }
}

struct CodeCase {
  grpc::StatusCode code;
  ExitCode exit;
};

TEST_F(CliTest, ExitsWithTheCodeOfTheError) {
  const CodeCase cases[] = {{grpc::StatusCode::CANCELLED, kOther},
                            {grpc::StatusCode::UNKNOWN, kOther},
                            {grpc::StatusCode::INVALID_ARGUMENT, kUsage},
                            {grpc::StatusCode::DEADLINE_EXCEEDED, kUnavailable},
                            {grpc::StatusCode::NOT_FOUND, kNotFound},
                            {grpc::StatusCode::ALREADY_EXISTS, kOther},
                            {grpc::StatusCode::PERMISSION_DENIED, kPermission},
                            {grpc::StatusCode::RESOURCE_EXHAUSTED, kResourceExhausted},
                            {grpc::StatusCode::FAILED_PRECONDITION, kPrecondition},
                            {grpc::StatusCode::ABORTED, kOther},
                            {grpc::StatusCode::OUT_OF_RANGE, kPrecondition},
                            {grpc::StatusCode::UNIMPLEMENTED, kOther},
                            {grpc::StatusCode::INTERNAL, kOther},
                            {grpc::StatusCode::UNAVAILABLE, kUnavailable},
                            {grpc::StatusCode::DATA_LOSS, kDataLoss},
                            {grpc::StatusCode::UNAUTHENTICATED, kPermission}};
  for (const CodeCase& one : cases) {
    server_.secateur.refusal = grpc::Status(one.code, "because");
    EXPECT_EQ(Run({"corpus", "delete", "c1"}), one.exit) << one.code;
    EXPECT_THAT(err_, StartsWith("secateur: because\n"));
    EXPECT_EQ(out_, "");
  }
}

TEST_F(CliTest, ShowsTheDetailsOfAnError) {
  google::rpc::Status rich;
  rich.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  rich.set_message("the queue\x1b[31m is full");
  google::rpc::ErrorInfo info;
  info.set_reason("QUEUE_FULL");
  rich.add_details()->PackFrom(info);
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("spec.budget");
  rich.add_details()->PackFrom(bad);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(5);
  rich.add_details()->PackFrom(retry);
  server_.secateur.refusal =
      grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, rich.message(), rich.SerializeAsString());
  EXPECT_EQ(Run({"corpus", "delete", "c1"}), kResourceExhausted);
  EXPECT_EQ(err_,
            "secateur: the queue?[31m is full\n"
            "  field: spec.budget\n"
            "  code: RESOURCE_EXHAUSTED, reason: QUEUE_FULL\n"
            "  try again in 5s\n");
}

TEST_F(CliTest, SaysHowToStartAServerWhenNobodyAnswers) {
  server_.Stop();
  EXPECT_EQ(Run({"corpus", "delete", "c1"}), kUnavailable);
  EXPECT_THAT(err_, AllOf(HasSubstr("is secateurd running at " + server_.address() + "?"),
                          HasSubstr("secateurd --model NAME=FOLDER --store URI")));
}

TEST_F(CliTest, NamesTheListOfWhatWasNotFound) {
  google::rpc::Status rich;
  rich.set_code(grpc::StatusCode::NOT_FOUND);
  google::rpc::ResourceInfo resource;
  resource.set_resource_type("secateur.dev/Corpus");
  rich.add_details()->PackFrom(resource);
  server_.secateur.refusal =
      grpc::Status(grpc::StatusCode::NOT_FOUND, "no such corpus", rich.SerializeAsString());
  EXPECT_EQ(Run({"corpus", "delete", "c1"}), kNotFound);
  EXPECT_THAT(err_, HasSubstr("secateur corpus list"));
}

TEST_F(CliTest, NamesTheCommandThatMakesWhatIsMissing) {
  const std::pair<const char*, const char*> cases[] = {
      {"PROFILE_MISSING", "secateur profile create"},
      {"NO_CORPUS_FOR_LABEL", "secateur dimension list"}};
  for (const auto& [reason, command] : cases) {
    google::rpc::Status rich;
    rich.set_code(grpc::StatusCode::FAILED_PRECONDITION);
    google::rpc::ErrorInfo info;
    info.set_reason(reason);
    rich.add_details()->PackFrom(info);
    server_.secateur.refusal =
        grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "missing", rich.SerializeAsString());
    EXPECT_EQ(Run({"expert", "plan", "--model", "m", "--task", "qa", "--remove", "35%"}),
              kPrecondition);
    EXPECT_THAT(err_, HasSubstr(command));
  }
}

TEST_F(CliTest, FindsTheServerInTheEnvironment) {
  server_.secateur.models = {ModelNamed("models/smollm2")};
  setenv("SECATEUR_SERVER", server_.address().c_str(), 1);
  EXPECT_EQ(RunAlone({"model", "list"}), kOk);
  setenv("SECATEUR_SERVER", "localhost:1", 1);
  EXPECT_EQ(Run({"model", "list"}), kOk);  // the option is stronger
  EXPECT_EQ(RunAlone({"model", "list"}), kUnavailable);
  unsetenv("SECATEUR_SERVER");
}

TEST_F(CliTest, ReadsTheTokenFromItsFile) {
  server_.secateur.models = {ModelNamed("models/m")};
  const std::string file = dir_.Write("token", "s3cret\n");
  EXPECT_EQ(Run({"model", "list", "--token-file", file}), kOk);
  EXPECT_EQ(Run({"model", "list", "--token-file", dir_.Join("none")}), kNotFound);
  EXPECT_THAT(err_, HasSubstr("--token-file"));
}

TEST_F(CliTest, ListsModelsAsATableAndAsJson) {
  v1::Model model = ModelNamed("models/smollm2");
  model.set_state(v1::Model::READY);
  model.set_family("llama");
  model.set_parameter_count(134'515'008);
  model.set_resident_bytes(538'060'032);
  server_.secateur.models = {model, ModelNamed("models/other"), ModelNamed("models/third")};
  EXPECT_EQ(Run({"model", "list"}), kOk);
  EXPECT_THAT(out_, AllOf(StartsWith("MODEL"), HasSubstr("models/smollm2  ready"),
                          HasSubstr("135M"), HasSubstr("513 MiB"), HasSubstr("models/third")));
  EXPECT_EQ(Run({"model", "list", "--output", "json"}), kOk);
  const auto response = Parsed<v1::ListModelsResponse>();
  ASSERT_EQ(response.models_size(), 3);
  EXPECT_EQ(response.models(0).SerializeAsString(), model.SerializeAsString());
  EXPECT_THAT(out_,
              AllOf(HasSubstr("\"parameterCount\": \"134515008\""), Not(HasSubstr("digest"))));
}

TEST_F(CliTest, TakesTheOnlyModelAndAsksWhenThereAreMore) {
  EXPECT_EQ(Run({"dimension", "list"}), kPrecondition);
  EXPECT_THAT(err_, HasSubstr("--model NAME=FOLDER"));
  server_.secateur.models = {ModelNamed("models/one")};
  EXPECT_EQ(Run({"dimension", "list"}), kOk);
  EXPECT_EQ(server_.secateur.parent, "models/one");
  server_.secateur.models.push_back(ModelNamed("models/two"));
  EXPECT_EQ(Run({"dimension", "list"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("models/one, models/two"));
  EXPECT_EQ(Run({"dimension", "list", "--model", "two"}), kOk);
  EXPECT_EQ(server_.secateur.parent, "models/two");
  EXPECT_EQ(Run({"profile", "list", "--model", "models/two"}), kOk);
  EXPECT_EQ(server_.secateur.parent, "models/two");
}

}  // namespace
}  // namespace secateur::cli
