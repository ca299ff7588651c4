// secateur corpus upload: files, the standard input, or a list of files with their labels.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/context.h"

namespace secateur::cli {

struct UploadOptions {
  std::vector<std::string> files;   // "-" is the standard input
  std::vector<std::string> labels;  // KEY=VALUE, the same for all files
  std::string purpose, format, display_name;
  std::string manifest;  // instead of files, labels and purpose
};

// Uploads one after the other, prints each, and stops at the first that fails. Files that end in
// ".txt" are plain text unless `format` says otherwise; the display name defaults to the file name.
absl::Status CorpusUpload(const SecateurClient& client, const UploadOptions& options,
                          Context& context);

}  // namespace secateur::cli
