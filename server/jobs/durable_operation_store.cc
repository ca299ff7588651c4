#include "server/jobs/durable_operation_store.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/digest.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

using nlohmann::json;

constexpr char kFolder[] = "operations/";
constexpr int kFormatVersion = 1;
constexpr int64_t kMaxEventBytes = int64_t{64} << 20;
constexpr int64_t kPage = 1000;
constexpr size_t kDigestDigits = 64;
constexpr std::pair<OperationEvent::Kind, const char*> kKinds[] = {
    {OperationEvent::Kind::kCreated, "created"},
    {OperationEvent::Kind::kStarted, "started"},
    {OperationEvent::Kind::kSuspended, "suspended"},
    {OperationEvent::Kind::kCancelRequested, "cancel_requested"},
    {OperationEvent::Kind::kSucceeded, "succeeded"},
    {OperationEvent::Kind::kFailed, "failed"},
    {OperationEvent::Kind::kCancelled, "cancelled"},
};

std::string RandomOwner() {
  std::random_device random;
  return absl::StrFormat("%08x", random());
}

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
  return event;
}

// "operations/<id>/<number>.<owner>" to its parts.
struct EventKey {
  std::string id;
  int64_t number = 0;
};
std::optional<EventKey> ParseKey(std::string_view key) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(key), '/');
  if (parts.size() != 3 || parts[2].size() < 7 || parts[2][6] != '.') return std::nullopt;
  EventKey parsed{.id = parts[1]};
  for (const char digit : parts[2].substr(0, 6)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    parsed.number = 10 * parsed.number + (digit - '0');
  }
  return parsed;
}

// Of all objects below `prefix`, in key order.
absl::StatusOr<std::vector<std::string>> KeysBelow(BlobStore& blobs, const std::string& prefix) {
  std::vector<std::string> keys;
  while (true) {
    const std::string last = keys.empty() ? "" : keys.back();
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page, blobs.List(prefix, last, kPage));
    for (const BlobInfo& blob : page) keys.push_back(blob.key);
    if (std::ssize(page) < kPage) return keys;
  }
}

absl::StatusOr<OperationEvent> ReadEvent(BlobStore& blobs, const std::string& key) {
  ASSIGN_OR_RETURN(const std::string text, blobs.ReadAll(key, kMaxEventBytes));
  return EventFromText(text);
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
  const std::string text = out.dump() + "\n";
  return StrCat(Sha256Of(text).Hex(), "\n", text);
}

absl::StatusOr<OperationEvent> EventFromText(std::string_view text) {
  if (text.size() <= kDigestDigits || text[kDigestDigits] != '\n' ||
      Sha256Of(text.substr(kDigestDigits + 1)).Hex() != text.substr(0, kDigestDigits)) {
    return absl::DataLossError("an operation's event does not match its SHA-256");
  }
  const json parsed = json::parse(text.substr(kDigestDigits + 1), nullptr, false);
  try {
    return EventFromJson(parsed);
  } catch (const json::exception& error) {
    return absl::DataLossError(StrCat("an operation's event is not as written: ", error.what()));
  }
}

DurableOperationStore::DurableOperationStore(BlobStore& blobs)
    : blobs_(blobs), owner_(RandomOwner()) {}

absl::Status DurableOperationStore::Append(const std::string& id, const OperationEvent& event) {
  int64_t number = 0;
  {
    MutexLock lock(mutex_);
    number = ++numbers_[id];
  }
  const absl::Status put =
      blobs_.Put(absl::StrFormat("%s%s/%06d.%s", kFolder, id, number, owner_), EventToText(event))
          .status();
  if (put.ok() || number > 1) return put;
  MutexLock lock(mutex_);
  numbers_.erase(id);  // of an operation that was not accepted
  return put;
}

absl::Status DurableOperationStore::Delete(const std::string& id) {
  ASSIGN_OR_RETURN(const std::vector<std::string> keys,
                   KeysBelow(blobs_, StrCat(kFolder, id, "/")));
  for (const std::string& key : keys) RETURN_IF_ERROR(blobs_.Delete(key));
  MutexLock lock(mutex_);
  numbers_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::vector<OperationEvent>>> DurableOperationStore::Load() {
  std::map<std::string, std::vector<OperationEvent>> operations;
  std::map<std::string, int64_t> numbers;
  std::set<std::string> begun;  // whose beginning is there, read or not
  ASSIGN_OR_RETURN(const std::vector<std::string> keys, KeysBelow(blobs_, kFolder));
  for (const std::string& key : keys) {
    const auto parsed = ParseKey(key);
    if (!parsed) continue;
    numbers[parsed->id] = std::max(numbers[parsed->id], parsed->number);
    if (parsed->number == 1) begun.insert(parsed->id);
    absl::StatusOr<OperationEvent> event = ReadEvent(blobs_, key);
    if (!event.ok()) {
      Log(LogLevel::kError, "an operation's event is not used",
          {{"key", key}, {"error", event.status().ToString()}});
      continue;
    }
    std::vector<OperationEvent>& events = operations[parsed->id];
    // Accepted again, after its first beginning was damaged or not all of it was deleted.
    if (event->kind == OperationEvent::Kind::kCreated) events.clear();
    events.push_back(*std::move(event));
  }
  for (const auto& [id, number] : numbers) {
    const auto found = operations.find(id);
    const bool known =
        found != operations.end() && found->second[0].kind == OperationEvent::Kind::kCreated;
    if (known) continue;
    if (found != operations.end()) operations.erase(found);
    const absl::Status removed = begun.contains(id) ? absl::OkStatus() : Delete(id);
    if (removed.ok()) continue;
    Log(LogLevel::kError, "what is left of an operation could not be removed",
        {{"operation", id}, {"error", removed.ToString()}});
  }
  MutexLock lock(mutex_);
  numbers_ = std::move(numbers);
  return operations;
}

}  // namespace secateur
