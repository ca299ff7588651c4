// Whether PEM files hold what TLS needs, told with flag, file and fix. Thread-safe functions.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace secateur {

struct PemFile {
  std::string flag;  // "--tls-cert": what gave us the file
  std::string path;
  std::string text;
};

// OK when `cert` is a chain that is valid now, its first certificate is one that TLS takes, and
// `key` is that one's. INVALID_ARGUMENT or FAILED_PRECONDITION (not valid now) otherwise. No text
// of a key appears in a message.
absl::Status CheckServerPair(const PemFile& cert, const PemFile& key);

// OK when `ca` holds certificates and at least one of them is valid now.
absl::Status CheckAuthorities(const PemFile& ca);

}  // namespace secateur
