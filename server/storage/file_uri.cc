#include "server/storage/file_uri.h"

#include <climits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

absl::Status Malformed(std::string_view uri, std::string_view problem) {
  return absl::InvalidArgumentError(StrCat("the URI ", Quoted(uri), " ", problem));
}

// The value of the two hex digits at the start of `text`, -1 if they are none.
int HexByte(std::string_view text) {
  if (text.size() < 2 || !absl::ascii_isxdigit(static_cast<unsigned char>(text[0])) ||
      !absl::ascii_isxdigit(static_cast<unsigned char>(text[1]))) {
    return -1;
  }
  return static_cast<unsigned char>(absl::HexStringToBytes(ToAbsl(text.substr(0, 2)))[0]);
}

absl::StatusOr<std::string> Decode(std::string_view uri, std::string_view encoded) {
  std::string path;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      path += encoded[i];
      continue;
    }
    const int byte = HexByte(encoded.substr(i + 1));
    if (byte < 0)
      return Malformed(uri, "has a '%' that two hex digits do not follow; write \"%25\"");
    if (byte == '/') return Malformed(uri, "has an encoded '/', which no file name can hold");
    path += static_cast<char>(byte);
    i += 2;
  }
  return path;
}

bool IsPlainInUri(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("/-._~").find(c) != std::string_view::npos;
}

}  // namespace

std::string UriScheme(std::string_view uri) {
  const size_t colon = uri.find(':');
  if (colon == std::string_view::npos || colon == 0 ||
      !absl::ascii_isalpha(static_cast<unsigned char>(uri[0]))) {
    return "";
  }
  const std::string_view scheme = uri.substr(0, colon);
  for (const char c : scheme) {
    const bool legal =
        absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
    if (!legal) return "";
  }
  return absl::AsciiStrToLower(ToAbsl(scheme));
}

absl::StatusOr<std::string> FileUriToPath(const std::string& uri) {
  const std::string scheme = UriScheme(uri);
  if (scheme.empty()) return Malformed(uri, "has no scheme; write file:/absolute/path");
  if (scheme != "file") {
    return absl::UnimplementedError(StrCat("the URI ", Quoted(uri), " has the scheme ", scheme,
                                           ":; here only file: is served"));
  }
  std::string_view rest = std::string_view(uri).substr(scheme.size() + 1);
  if (rest.find_first_of("?#") != std::string_view::npos) {
    return Malformed(uri,
                     "has a query or a fragment, which files have not; write \"%3F\" or "
                     "\"%23\" for a '?' or '#' in a name");
  }
  if (rest.substr(0, 2) == "//") {
    rest.remove_prefix(2);
    const std::string_view host = rest.substr(0, rest.find('/'));
    if (!host.empty() && !absl::EqualsIgnoreCase(ToAbsl(host), "localhost")) {
      return Malformed(uri, "names a host; files of this machine are file:/absolute/path");
    }
    rest.remove_prefix(host.size());
  }
  if (rest.substr(0, 1) != "/") return Malformed(uri, "has no absolute path");
  ASSIGN_OR_RETURN(std::string path, Decode(uri, rest));
  if (path.find('\0') != std::string::npos) return Malformed(uri, "has a NUL byte in its path");
  if (FirstInvalidUtf8(path)) return Malformed(uri, "has a path that is not UTF-8");
  if (path.size() >= PATH_MAX) return Malformed(uri, "has a path that is too long");
  return path;
}

std::string PathToFileUri(std::string_view path) {
  std::string uri = "file:";
  for (const char c : path) {
    if (IsPlainInUri(c)) {
      uri += c;
    } else {
      uri += StrCat("%", absl::AsciiStrToUpper(absl::BytesToHexString(absl::string_view(&c, 1))));
    }
  }
  return uri;
}

bool IsBucketScheme(std::string_view scheme) {
  return scheme == "s3" || scheme == "gs" || scheme == "abfs" || scheme == "abfss";
}

}  // namespace secateur
