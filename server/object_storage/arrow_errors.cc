#include "server/object_storage/arrow_errors.h"

#include <arrow/util/io_util.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

struct Sign {
  const char* text;  // as S3, GCS or Azure say it, in lower case
  absl::StatusCode code;
  const char* advice;
};

// The first that is found in the text counts.
constexpr Sign kNoBucket[] = {
    {"no_such_bucket", absl::StatusCode::kFailedPrecondition,
     "make the bucket: the server makes none"},
    {"nosuchbucket", absl::StatusCode::kFailedPrecondition,
     "make the bucket: the server makes none"},
    {"containernotfound", absl::StatusCode::kFailedPrecondition,
     "make the container: the server makes none"},
    {"bucket does not exist", absl::StatusCode::kFailedPrecondition,
     "make the bucket: the server makes none"},
};

// The text names the object, too, in which these may stand: what is known without them goes first.
constexpr Sign kSigns[] = {
    {"request_time_too_skewed", absl::StatusCode::kFailedPrecondition, "set this machine's clock"},
    {"requesttimetooskewed", absl::StatusCode::kFailedPrecondition, "set this machine's clock"},
    {"expired", absl::StatusCode::kPermissionDenied, "renew the server's credentials"},
    {"access_denied", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"accessdenied", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"invalid_access_key_id", absl::StatusCode::kPermissionDenied,
     "check the server's credentials"},
    {"signature_does_not_match", absl::StatusCode::kPermissionDenied,
     "check the server's credentials"},
    {"cloud::status(unauthenticated", absl::StatusCode::kPermissionDenied,
     "check the server's credentials"},
    {"cloud::status(permission_denied", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"azure error: [authorization", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"azure error: [insufficientaccountpermissions", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"http status 401", absl::StatusCode::kPermissionDenied, "check the server's credentials"},
    {"http status 403", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"permission denied", absl::StatusCode::kPermissionDenied,
     "check the server's credentials and their rights"},
    {"authenticationfailed", absl::StatusCode::kPermissionDenied, "check the server's credentials"},
    {"entity_too_large", absl::StatusCode::kResourceExhausted, "use smaller shards"},
    {"quota", absl::StatusCode::kResourceExhausted, "make room in the store"},
};

const Sign* Find(std::span<const Sign> signs, std::string_view message) {
  const auto found = std::find_if(signs.begin(), signs.end(), [&](const Sign& sign) {
    return message.find(sign.text) != message.npos;
  });
  return found == signs.end() ? nullptr : &*found;
}

absl::Status StatusOf(const Sign& sign, const std::string& text) {
  return absl::Status(sign.code, ToAbsl(StrCat(text, "; ", sign.advice)));
}

bool IsMissing(const arrow::Status& status) {
  return arrow::internal::ErrnoFromStatus(status) == ENOENT;
}

// Google's client says "google::cloud::Status(CODE: text error_info={...})", Azure's what it was
// about, the error, and more on further lines. Of both the error is left, on one line.
std::string Readable(std::string_view message) {
  constexpr std::string_view kGoogle = "google::cloud::Status(";
  std::string text(message);
  if (const size_t google = text.find(kGoogle); google != std::string::npos) {
    text.erase(google, kGoogle.size());
    text.erase(std::min(text.rfind(" error_info={"), text.size()));
  }
  if (const size_t azure = text.find("Azure Error: ["); azure != std::string::npos) {
    text.erase(0, azure);
  }
  return absl::StrReplaceAll(
      text, {{"Permanent error, with a last message of ", ""}, {"\r", ""}, {"\n", ", "}});
}

}  // namespace

absl::Status FromArrow(const arrow::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = StrCat(what, ": ", Readable(status.message()));
  const std::string message = absl::AsciiStrToLower(status.message());
  if (const Sign* sign = Find(kNoBucket, message)) return StatusOf(*sign, text);
  if (IsMissing(status)) return absl::NotFoundError(text);
  if (const Sign* sign = Find(kSigns, message)) return StatusOf(*sign, text);
  if (status.IsOutOfMemory()) return absl::ResourceExhaustedError(text);
  if (status.IsInvalid() || status.IsNotImplemented()) return absl::InternalError(text);
  return absl::UnavailableError(text);
}

}  // namespace secateur
