#include "server/object_storage/s3_uploads.h"

#include <curl/curl.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr long kSeconds = 30;
constexpr size_t kMaxAnswer = 8 << 20;
// Of no body.
constexpr char kEmptyDigest[] =
    "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

size_t Collect(char* bytes, size_t size, size_t count, void* answer) {
  auto& text = *static_cast<std::string*>(answer);
  if (text.size() + size * count > kMaxAnswer) return 0;
  text.append(bytes, size * count);
  return size * count;
}

// As S3 wants it in paths and queries; `keep` stays.
std::string Escape(std::string_view text, char keep) {
  std::string escaped;
  for (const char c : text) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                       c == '.' || c == '~' || c == keep;
    escaped += plain ? std::string(1, c) : absl::StrFormat("%%%02X", static_cast<unsigned char>(c));
  }
  return escaped;
}

// What stands between <tag> and </tag>, and is taken off `xml` with all before it.
std::optional<std::string_view> NextElement(std::string_view& xml, std::string_view tag) {
  const size_t open = xml.find(StrCat("<", tag, ">"));
  if (open == std::string_view::npos) return std::nullopt;
  const size_t begin = open + tag.size() + 2;
  const size_t end = xml.find(StrCat("</", tag, ">"), begin);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view inside = xml.substr(begin, end - begin);
  xml.remove_prefix(end);
  return inside;
}
std::string_view Element(std::string_view xml, std::string_view tag) {
  return NextElement(xml, tag).value_or(std::string_view());
}

}  // namespace

S3Uploads::S3Uploads(arrow::fs::S3Options options, std::string bucket)
    : options_(std::move(options)), bucket_(std::move(bucket)) {}

absl::StatusOr<int64_t> S3Uploads::AbortOld(const std::string& prefix, absl::Time before) const {
  ASSIGN_OR_RETURN(const std::vector<Upload> uploads, List(prefix));
  int64_t aborted = 0;
  for (const Upload& upload : uploads) {
    if (upload.begun >= before) continue;
    RETURN_IF_ERROR(Abort(upload));
    ++aborted;
  }
  return aborted;
}

absl::Status S3Uploads::AbortOnly(const std::string& key) const {
  ASSIGN_OR_RETURN(std::vector<Upload> uploads, List(key));
  std::erase_if(uploads, [&key](const Upload& upload) { return upload.key != key; });
  if (uploads.size() > 1) return absl::FailedPreconditionError("another upload of it is under way");
  return uploads.empty() ? absl::OkStatus() : Abort(uploads[0]);
}

absl::StatusOr<std::vector<S3Uploads::Upload>> S3Uploads::List(const std::string& prefix) const {
  ASSIGN_OR_RETURN(const std::string answer,
                   Send("GET", "", StrCat("prefix=", Escape(prefix, 0), "&uploads=")));
  std::vector<Upload> uploads;
  std::string_view xml = answer;
  while (const auto inside = NextElement(xml, "Upload")) {
    Upload upload{
        std::string(Element(*inside, "Key")), std::string(Element(*inside, "UploadId")), {}};
    // Without a time it may be anybody's of this moment.
    std::string ignored;
    if (absl::ParseTime(absl::RFC3339_full, ToAbsl(Element(*inside, "Initiated")), &upload.begun,
                        &ignored)) {
      uploads.push_back(std::move(upload));
    }
  }
  return uploads;
}

absl::Status S3Uploads::Abort(const Upload& upload) const {
  return Send("DELETE", upload.key, "uploadId=" + Escape(upload.id, 0)).status();
}

absl::StatusOr<std::string> S3Uploads::Send(const char* method, const std::string& key,
                                            const std::string& query) const {
  const bool in_path = !options_.endpoint_override.empty() && !options_.force_virtual_addressing;
  const std::string host = options_.endpoint_override.empty()
                               ? StrCat("s3.", options_.region, ".amazonaws.com")
                               : options_.endpoint_override;
  const std::string place = in_path ? StrCat(host, "/", bucket_) : StrCat(bucket_, ".", host);
  const std::string url = StrCat(options_.scheme, "://", place, in_path && key.empty() ? "" : "/",
                                 Escape(key, '/'), "?", query);
  const std::string user = StrCat(options_.GetAccessKey(), ":", options_.GetSecretKey());
  const std::string token = options_.GetSessionToken();
  const std::string signature = StrCat("aws:amz:", options_.region, ":s3");

  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (curl == nullptr) return absl::InternalError("libcurl cannot start");
  curl_slist* list = curl_slist_append(nullptr, kEmptyDigest);
  if (!token.empty())
    list = curl_slist_append(list, StrCat("x-amz-security-token: ", token).c_str());
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(list, curl_slist_free_all);
  std::string answer;
  long status = 0;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(curl.get(), CURLOPT_USERPWD, user.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_AWS_SIGV4, signature.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, Collect);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kSeconds);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) return absl::UnavailableError(curl_easy_strerror(code));
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status / 100 == 2) return answer;
  return absl::UnavailableError(StrCat("HTTP status ", status, " ", Element(answer, "Code")));
}

}  // namespace secateur
