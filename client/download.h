// Experts as files in a local folder, every byte checked.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "client/connection.h"
#include "secateur/v1/resources.pb.h"

namespace secateur {

// Bytes of this file in the folder so far, and all it has. Called on the calling thread.
using DownloadProgress = std::function<void(int64_t done, int64_t total)>;

// Brings one file of `expert` (its resource name) to `folder`, which is made if missing. `file` is
// an entry of Expert.files: its name, size and SHA-256 are what the bytes are checked against. A
// file that is there already is only checked. After UNAVAILABLE the stream is taken up where it
// broke; a call that failed can be repeated and goes on there too.
// Errors: INVALID_ARGUMENT (a file name that is not a plain name), ALREADY_EXISTS (another file of
// that name), DATA_LOSS (wrong bytes; nothing is kept), ABORTED (another process is at it),
// RESOURCE_EXHAUSTED (disk full), and those of DownloadExpertFile.
absl::Status DownloadFile(const ClientConnection& connection, const std::string& expert,
                          const v1::ExpertFile& file, const std::string& folder,
                          const DownloadProgress& progress);

}  // namespace secateur
