#include "server/object_storage/object_filesystem.h"

#include <arrow/filesystem/azurefs.h>
#include <arrow/filesystem/gcsfs.h>
#include <arrow/filesystem/s3fs.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/object_storage/arrow_errors.h"
#include "server/storage/file_uri.h"

namespace secateur {
namespace {

// Attempts of one request, with growing random pauses in between; about ten seconds in all.
// Google's client begins no pause after its time, and ends within twice of it. Azure's makes four
// attempts within some six seconds, which Arrow cannot change.
constexpr int64_t kS3Attempts = 5;
constexpr double kGcsRetrySeconds = 10;

// Of a URI after its scheme: "user@host/path" and "a=b&c=d".
struct Parts {
  std::string user, place, query;
};

Parts Split(std::string_view uri, std::string_view scheme) {
  std::string_view rest = uri.substr(scheme.size() + 3);  // "://"
  Parts parts;
  if (const size_t question = rest.find('?'); question != std::string_view::npos) {
    parts.query = rest.substr(question + 1);
    rest = rest.substr(0, question);
  }
  const size_t at = rest.substr(0, rest.find('/')).rfind('@');
  if (at != std::string_view::npos) {
    parts.user = rest.substr(0, at);
    rest = rest.substr(at + 1);
  }
  while (rest.ends_with('/')) rest.remove_suffix(1);
  parts.place = rest;
  return parts;
}

// Before anything of the URI is shown.
absl::Status RefuseCredentials(const Parts& parts, std::string_view scheme) {
  const bool user_is_secret = scheme == "s3" && !parts.user.empty();
  bool secret = user_is_secret || absl::StrContains(parts.user, ":");
  for (const char* name : {"sig=", "secret", "token", "access_key", "password"}) {
    secret = secret || absl::StrContains(absl::AsciiStrToLower(parts.query), name);
  }
  if (!secret) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(
      "the store URI ", scheme,
      "://... holds credentials: leave them out and give them to the server's environment, as the "
      "cloud's own tools read them"));
}

// What Arrow makes of a URI. It may ask the store where a bucket is.
template <class T>
absl::StatusOr<T> Usable(arrow::Result<T> result, std::string_view what) {
  if (result.ok()) return *std::move(result);
  if (!result.status().IsInvalid()) return FromArrow(result.status(), what);
  return absl::InvalidArgumentError(StrCat(what, ": ", result.status().message()));
}

absl::StatusOr<ObjectFilesystem> OpenS3(const std::string& uri, const std::string& what) {
  const arrow::Status started = arrow::fs::EnsureS3Initialized();
  if (!started.ok()) return FromArrow(started, what);
  ObjectFilesystem opened{.can_abort = true};
  ASSIGN_OR_RETURN(arrow::fs::S3Options options,
                   Usable(arrow::fs::S3Options::FromUri(uri, &opened.root), what));
  options.retry_strategy = arrow::fs::S3RetryStrategy::GetAwsStandardRetryStrategy(kS3Attempts);
  options.allow_delayed_open = true;  // small objects in one request
  ASSIGN_OR_RETURN(const std::shared_ptr<arrow::fs::S3FileSystem> s3,
                   Usable(arrow::fs::S3FileSystem::Make(options), what));
  options.region = s3->region();
  opened.uploads =
      std::make_shared<S3Uploads>(std::move(options), opened.root.substr(0, opened.root.find('/')));
  opened.arrow = s3;
  return opened;
}

absl::StatusOr<ObjectFilesystem> OpenGcs(const std::string& uri, const std::string& what) {
  ObjectFilesystem opened;
  ASSIGN_OR_RETURN(arrow::fs::GcsOptions options,
                   Usable(arrow::fs::GcsOptions::FromUri(uri, &opened.root), what));
  options.retry_limit_seconds = kGcsRetrySeconds;
  ASSIGN_OR_RETURN(opened.arrow, Usable(arrow::fs::GcsFileSystem::Make(options), what));
  return opened;
}

absl::StatusOr<ObjectFilesystem> OpenAzure(const std::string& uri, const std::string& what) {
  ObjectFilesystem opened;
  ASSIGN_OR_RETURN(arrow::fs::AzureOptions options,
                   Usable(arrow::fs::AzureOptions::FromUri(uri, &opened.root), what));
  // Parts in flight when a stream goes have ended the process.
  options.background_writes = false;
  arrow::Status given;
  if (const char* key = std::getenv("AZURE_STORAGE_KEY")) {
    given = options.ConfigureAccountKeyCredential(key);
  } else if (const char* token = std::getenv("AZURE_STORAGE_SAS_TOKEN")) {
    given = options.ConfigureSASCredential(token);
  }
  if (!given.ok())
    return absl::InvalidArgumentError(StrCat(what, ": its credentials are malformed"));
  ASSIGN_OR_RETURN(opened.arrow, Usable(arrow::fs::AzureFileSystem::Make(options), what));
  return opened;
}

}  // namespace

std::string ShownUri(const std::string& uri) {
  std::string scheme = UriScheme(uri);
  if (uri.size() < scheme.size() + 3) return scheme;
  return StrCat(scheme, "://", Split(uri, scheme).place);
}

absl::StatusOr<ObjectFilesystem> OpenObjectFilesystem(const std::string& uri) {
  const std::string scheme = UriScheme(uri);
  if (!IsBucketScheme(scheme)) {
    return absl::UnimplementedError(StrCat("the scheme ", scheme, ": is of no object store"));
  }
  if (!absl::StartsWith(ToAbsl(std::string_view(uri).substr(scheme.size())), "://")) {
    return absl::InvalidArgumentError(
        StrCat("the store URI ", Quoted(uri), " is malformed; write ", scheme, "://BUCKET/FOLDER"));
  }
  const Parts parts = Split(uri, scheme);
  RETURN_IF_ERROR(RefuseCredentials(parts, scheme));
  const std::string shown = ShownUri(uri);
  const std::string what = StrCat("cannot open the store ", shown);
  if (parts.place.empty()) return absl::InvalidArgumentError(StrCat(what, ": name a bucket"));
  auto opened = scheme == "s3"   ? OpenS3(uri, what)
                : scheme == "gs" ? OpenGcs(uri, what)
                                 : OpenAzure(uri, what);
  if (!opened.ok()) return opened;
  while (absl::EndsWith(opened->root, "/")) opened->root.pop_back();
  if (opened->root.empty()) return absl::InvalidArgumentError(StrCat(what, ": name a bucket"));
  opened->uri = shown;
  return opened;
}

}  // namespace secateur
