#include "client/cli/context.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/read_file.h"
#include "google/protobuf/util/json_util.h"

namespace secateur::cli {

absl::StatusOr<SecateurClient> ConnectWith(const Context& context) {
  ClientOptions options = context.client;
  if (!context.token_file.empty()) {
    auto token = ReadSmallFile("--token-file", context.token_file);
    if (!token.ok()) return token.status();
    options.token = std::string(absl::StripAsciiWhitespace(*token));
  }
  return SecateurClient::Connect(options);
}

std::string FullName(const std::string& collection, const std::string& name) {
  return absl::StrContains(name, "/") ? name : absl::StrCat(collection, "/", name);
}

absl::StatusOr<std::string> ResolveModel(const SecateurClient& client, const std::string& name) {
  if (!name.empty()) return FullName("models", name);
  const auto models = client.ListModels();
  if (!models.ok()) return models.status();
  if (models->size() == 1) return models->front().name();
  if (models->empty()) {
    return absl::FailedPreconditionError(
        "the server has no base model; secateurd takes them with "
        "--model NAME=FOLDER");
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the server has ", models->size(), " base models; say which with --model: ",
      absl::StrJoin(*models, ", ",
                    [](std::string* out, const v1::Model& model) { out->append(model.name()); })));
}

absl::StatusOr<std::string> ResolveExpert(const SecateurClient& client, const std::string& name) {
  if (absl::StrContains(name, "/")) return name;
  auto model = ResolveModel(client, "");
  if (!model.ok()) return model.status();
  return absl::StrCat(*model, "/experts/", name);
}

absl::Status PrintJson(const google::protobuf::Message& message, Context& context) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::InternalError("cannot print the answer: " + status.ToString());
  context.out << json;
  return absl::OkStatus();
}

absl::Status Print(const google::protobuf::Message& message, const Table& table, Context& context) {
  if (context.json) return PrintJson(message, context);
  table.Print(context.out);
  return absl::OkStatus();
}

}  // namespace secateur::cli
