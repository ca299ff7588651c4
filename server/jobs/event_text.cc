#include "server/jobs/event_text.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

using nlohmann::json;

constexpr int kFormatVersion = 2;
constexpr size_t kDigestDigits = 64;
constexpr std::pair<OperationEvent::Kind, const char*> kKinds[] = {
    {OperationEvent::Kind::kCreated, "created"},
    {OperationEvent::Kind::kAdopted, "adopted"},
    {OperationEvent::Kind::kStarted, "started"},
    {OperationEvent::Kind::kSuspended, "suspended"},
    {OperationEvent::Kind::kCancelRequested, "cancel_requested"},
    {OperationEvent::Kind::kSucceeded, "succeeded"},
    {OperationEvent::Kind::kFailed, "failed"},
    {OperationEvent::Kind::kCancelled, "cancelled"},
};

std::string Base64(std::string_view bytes) { return absl::Base64Escape(ToAbsl(bytes)); }

absl::StatusOr<std::string> FromBase64(const json& text) {
  std::string bytes;
  if (absl::Base64Unescape(text.get_ref<const std::string&>(), &bytes)) return bytes;
  return absl::DataLossError("a value is not base64");
}

json ErrorToJson(const absl::Status& error) {
  json out{{"code", static_cast<int>(error.code())}, {"message", Base64(ToStd(error.message()))}};
  error.ForEachPayload([&out](absl::string_view key, const absl::Cord& value) {
    out["payloads"][std::string(key)] = Base64(std::string(value));
  });
  return out;
}

absl::StatusOr<absl::Status> ErrorFromJson(const json& in) {
  ASSIGN_OR_RETURN(const std::string message, FromBase64(in.at("message")));
  absl::Status error(static_cast<absl::StatusCode>(in.at("code").get<int>()), message);
  if (!in.contains("payloads")) return error;
  for (const auto& [key, value] : in.at("payloads").items()) {
    ASSIGN_OR_RETURN(const std::string payload, FromBase64(value));
    error.SetPayload(key, absl::Cord(payload));
  }
  return error;
}

absl::StatusOr<OperationEvent> EventFromJson(const json& in) {
  if (in.at("format_version").get<int>() != kFormatVersion) {
    return absl::DataLossError("the event is of another format version");
  }
  const auto name = in.at("event").get<std::string>();
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&name](const auto& row) { return name == row.second; });
  if (kind == std::end(kKinds)) return absl::DataLossError("the event is of an unknown kind");
  OperationEvent event{.kind = kind->first,
                       .time = absl::FromUnixNanos(in.at("time_unix_nanos").get<int64_t>())};
  if (in.contains("request")) {
    const json& request = in.at("request");
    event.request.method = request.at("method").get<std::string>();
    event.request.target = request.at("target").get<std::string>();
    ASSIGN_OR_RETURN(event.request.request_id, FromBase64(request.at("request_id")));
    ASSIGN_OR_RETURN(event.request.request, FromBase64(request.at("request")));
  }
  if (in.contains("result")) {
    event.result.type = in.at("result").at("type").get<std::string>();
    ASSIGN_OR_RETURN(event.result.bytes, FromBase64(in.at("result").at("bytes")));
  }
  if (in.contains("error")) {
    ASSIGN_OR_RETURN(event.error, ErrorFromJson(in.at("error")));
  }
  event.cancel_requested = in.value("cancel_requested", false);
  return event;
}

}  // namespace

std::string EventToText(const OperationEvent& event) {
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&event](const auto& row) { return row.first == event.kind; });
  json out{{"format_version", kFormatVersion},
           {"event", kind->second},
           {"time_unix_nanos", absl::ToUnixNanos(event.time)}};
  if (event.kind == OperationEvent::Kind::kCreated) {
    out["request"] = {{"method", event.request.method},
                      {"target", event.request.target},
                      {"request_id", Base64(event.request.request_id)},
                      {"request", Base64(event.request.request)}};
  }
  if (event.kind == OperationEvent::Kind::kSucceeded) {
    out["result"] = {{"type", event.result.type}, {"bytes", Base64(event.result.bytes)}};
  }
  if (!event.error.ok()) out["error"] = ErrorToJson(event.error);
  if (event.cancel_requested) out["cancel_requested"] = true;
  return WithDigest(out.dump() + "\n");
}

absl::StatusOr<OperationEvent> EventFromText(std::string_view text) {
  ASSIGN_OR_RETURN(const std::string checked, CheckDigest(text));
  const json parsed = json::parse(checked, nullptr, false);
  try {
    return EventFromJson(parsed);
  } catch (const json::exception& error) {
    return absl::DataLossError(StrCat("an operation's event is not as written: ", error.what()));
  }
}

std::string WithDigest(const std::string& text) { return StrCat(Sha256Of(text).Hex(), "\n", text); }

absl::StatusOr<std::string> CheckDigest(std::string_view text) {
  if (text.size() <= kDigestDigits || text[kDigestDigits] != '\n' ||
      Sha256Of(text.substr(kDigestDigits + 1)).Hex() != text.substr(0, kDigestDigits)) {
    return absl::DataLossError("the bytes do not match their SHA-256");
  }
  return std::string(text.substr(kDigestDigits + 1));
}

}  // namespace secateur
