#include "server/format/safetensors_reader.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/safetensors_header.h"

namespace secateur {
namespace {

uint64_t ReadLength(std::string_view bytes) {
  uint64_t length = 0;
  for (size_t i = kSafetensorsLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return length;
}

// The JSON at the start of the file, without anything said about it yet.
absl::StatusOr<std::string_view> HeaderText(std::string_view bytes) {
  if (bytes.size() < kSafetensorsLengthBytes) {
    return absl::InvalidArgumentError(
        StrCat("the file has ", bytes.size(), " bytes, too few for a header's length"));
  }
  const uint64_t length = ReadLength(bytes);
  if (length > kSafetensorsHeaderLimit) {
    return absl::InvalidArgumentError(StrCat("the header claims ", length, " bytes; at most ",
                                             kSafetensorsHeaderLimit, " are allowed"));
  }
  const std::string_view rest = bytes.substr(kSafetensorsLengthBytes);
  if (length > rest.size()) {
    return absl::InvalidArgumentError(
        StrCat("the header claims ", length, " bytes, but only ", rest.size(), " follow"));
  }
  if (length == 0 || rest[0] != '{') {
    return absl::InvalidArgumentError("the header does not begin with \"{\"");
  }
  return rest.substr(0, length);
}

absl::Status CheckSize(const SafetensorsEntry& entry) {
  const int64_t size = ByteSize(entry.spec);
  if (size >= 0 && entry.begin <= entry.end &&
      entry.end - entry.begin == static_cast<uint64_t>(size)) {
    return absl::OkStatus();
  }
  const std::string what =
      StrCat("tensor ", Quoted(entry.spec.name), ": ", DTypeName(entry.spec.dtype), " of shape [",
             absl::StrJoin(entry.spec.shape, ", "), "]");
  if (size < 0) return absl::InvalidArgumentError(StrCat(what, " overflows"));
  return absl::InvalidArgumentError(StrCat(what, " has ", size, " bytes, but data_offsets [",
                                           entry.begin, ", ", entry.end, "] do not"));
}

// The entries must tile [0, data_size). Sorts them by their place in the file.
absl::Status CheckLayout(std::vector<SafetensorsEntry>& entries, uint64_t data_size) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    RETURN_IF_ERROR(CheckSize(entry));
    if (entry.begin != at || entry.end > data_size) {
      const std::string_view problem = entry.end > data_size ? "reaches past the end of the data"
                                       : entry.begin < at    ? "overlaps the tensor before it"
                                                             : "leaves a hole before it";
      return absl::InvalidArgumentError(StrCat(
          "tensor ", Quoted(entry.spec.name), ": data_offsets [", entry.begin, ", ", entry.end,
          "] ", problem, " (expected to begin at ", at, "; the data has ", data_size, " bytes)"));
    }
    at = entry.end;
  }
  if (at != data_size) {
    return absl::InvalidArgumentError(
        StrCat("the tensors end at byte ", at, " of the data, which has ", data_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SafetensorsReader::Parse(std::string_view bytes) {
  ASSIGN_OR_RETURN(const std::string_view text, HeaderText(bytes));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(text);
  if (!header.ok()) return Annotate(header.status(), "header");
  const std::string_view data = bytes.substr(kSafetensorsLengthBytes + text.size());
  RETURN_IF_ERROR(CheckLayout(header->entries, data.size()));
  for (SafetensorsEntry& entry : header->entries) {
    tensors_[std::move(entry.spec.name)] = {
        .dtype = entry.spec.dtype,
        .shape = std::move(entry.spec.shape),
        .bytes = data.substr(entry.begin, entry.end - entry.begin)};
  }
  metadata_ = std::move(header->metadata);
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsReader> SafetensorsReader::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  SafetensorsReader reader;
  reader.name_ = path;
  if (const absl::Status parsed = reader.Parse(file->bytes()); !parsed.ok()) {
    return Annotate(parsed, path);
  }
  reader.owner_ = std::move(file);
  return reader;
}

absl::StatusOr<SafetensorsReader> SafetensorsReader::FromBytes(std::string name,
                                                               std::string bytes) {
  const auto copy = std::make_shared<const std::string>(std::move(bytes));
  SafetensorsReader reader;
  reader.name_ = std::move(name);
  if (const absl::Status parsed = reader.Parse(*copy); !parsed.ok()) {
    return Annotate(parsed, reader.name_);
  }
  reader.owner_ = copy;
  return reader;
}

absl::StatusOr<TensorView> SafetensorsReader::Find(const std::string& tensor) const {
  const auto found = tensors_.find(tensor);
  if (found != tensors_.end()) return found->second;
  return absl::NotFoundError(StrCat(name_, " has no tensor ", Quoted(tensor)));
}

}  // namespace secateur
