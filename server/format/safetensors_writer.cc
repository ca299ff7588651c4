#include "server/format/safetensors_writer.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/safetensors_header.h"

namespace secateur {
namespace {

constexpr size_t kAlignment = 8;

absl::StatusOr<std::string> JsonString(std::string_view text) {
  if (FirstInvalidUtf8(text)) {
    return absl::InvalidArgumentError(StrCat(Quoted(text), " is not UTF-8"));
  }
  return nlohmann::json(text).dump();
}

absl::StatusOr<std::string> MetadataEntry(const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  for (const auto& [key, value] : metadata) {
    ASSIGN_OR_RETURN(const std::string key_json, JsonString(key));
    ASSIGN_OR_RETURN(const std::string value_json, JsonString(value));
    entries.push_back(StrCat(key_json, ":", value_json));
  }
  return StrCat("\"", kSafetensorsMetadataKey, "\":{", absl::StrJoin(entries, ","), "}");
}

// The entry of a tensor whose bytes begin at `offset`, which moves behind them.
absl::StatusOr<std::string> TensorEntry(const TensorSpec& spec, int64_t& offset) {
  ASSIGN_OR_RETURN(const std::string name, JsonString(spec.name));
  const int64_t size = ByteSize(spec);
  const int64_t begin = offset;
  if (size < 0 || __builtin_add_overflow(begin, size, &offset)) {
    return absl::InvalidArgumentError(StrCat("tensor ", Quoted(spec.name), ": shape [",
                                             absl::StrJoin(spec.shape, ", "),
                                             "] is negative or overflows"));
  }
  return StrCat(name, ":{\"dtype\":\"", DTypeName(spec.dtype), "\",\"shape\":[",
                absl::StrJoin(spec.shape, ","), "],\"data_offsets\":[", begin, ",", offset, "]}");
}

std::string LittleEndian(uint64_t value) {
  std::string out(kSafetensorsLengthBytes, '\0');
  for (char& byte : out) {
    byte = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  return out;
}

// The length and the JSON, padded so that the data begins at a multiple of 8.
absl::StatusOr<std::string> Header(const std::vector<TensorSpec>& specs,
                                   const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  if (!metadata.empty()) {
    ASSIGN_OR_RETURN(std::string entry, MetadataEntry(metadata));
    entries.push_back(std::move(entry));
  }
  std::set<std::string_view> names = {kSafetensorsMetadataKey};
  int64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) {
      return absl::InvalidArgumentError(StrCat("the tensor name ", Quoted(spec.name), " is taken"));
    }
    ASSIGN_OR_RETURN(std::string entry, TensorEntry(spec, offset));
    entries.push_back(std::move(entry));
  }
  std::string json = StrCat("{", absl::StrJoin(entries, ","), "}");
  json.resize((json.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  if (json.size() > kSafetensorsHeaderLimit) {
    return absl::InvalidArgumentError(StrCat("the header of ", specs.size(), " tensors has ",
                                             json.size(), " bytes; at most ",
                                             kSafetensorsHeaderLimit, " are allowed"));
  }
  return LittleEndian(json.size()) + json;
}

}  // namespace

absl::Status SafetensorsWriter::Begin(const std::vector<TensorSpec>& specs,
                                      const std::map<std::string, std::string>& metadata) {
  if (state_ != State::kNew) return absl::FailedPreconditionError("Begin() was called before");
  ASSIGN_OR_RETURN(const std::string header, Header(specs, metadata));
  specs_ = specs;
  remaining_ = specs_.empty() ? 0 : ByteSize(specs_[0]);
  SkipComplete();
  state_ = State::kOpen;
  return Send(header);
}

absl::Status SafetensorsWriter::Write(std::string_view data) {
  RETURN_IF_ERROR(CheckOpen("Write"));
  if (data.empty()) return absl::OkStatus();
  if (current_ == specs_.size()) {
    const std::string after =
        specs_.empty() ? "" : StrCat(" after the last tensor ", Quoted(specs_.back().name));
    return absl::FailedPreconditionError(
        StrCat("Write() of ", data.size(), " bytes", after, ": all tensors are complete"));
  }
  if (data.size() > static_cast<uint64_t>(remaining_)) {
    return absl::FailedPreconditionError(StrCat("Write() of ", data.size(), " bytes to tensor ",
                                                Quoted(specs_[current_].name), ", which lacks ",
                                                remaining_));
  }
  RETURN_IF_ERROR(Send(data));
  remaining_ -= static_cast<int64_t>(data.size());
  SkipComplete();
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  RETURN_IF_ERROR(CheckOpen("Finish"));
  if (current_ < specs_.size()) {
    return absl::FailedPreconditionError(StrCat(
        "Finish() while tensor ", Quoted(specs_[current_].name), " lacks ", remaining_, " bytes"));
  }
  state_ = State::kFinished;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::CheckOpen(std::string_view call) const {
  switch (state_) {
    case State::kNew:
      return absl::FailedPreconditionError(StrCat(call, "() before Begin()"));
    case State::kOpen:
      return absl::OkStatus();
    case State::kFailed:
      return absl::FailedPreconditionError(
          StrCat(call, "() after the sink failed: the file is incomplete"));
    case State::kFinished:
      return absl::FailedPreconditionError(StrCat(call, "() after Finish()"));
  }
  return absl::InternalError("unknown state of a writer");
}

absl::Status SafetensorsWriter::Send(std::string_view data) {
  absl::Status sent = sink_(data);
  if (!sent.ok()) state_ = State::kFailed;
  return sent;
}

void SafetensorsWriter::SkipComplete() {
  while (current_ < specs_.size() && remaining_ == 0) {
    ++current_;
    remaining_ = current_ < specs_.size() ? ByteSize(specs_[current_]) : 0;
  }
}

}  // namespace secateur
