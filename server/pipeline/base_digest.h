// The digest of a base model's folder, and its memory between starts: hashing many gigabytes takes
// minutes, during which no expert can be made.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/run_context.h"
#include "server/model/weights.h"
#include "server/storage/blob_store.h"

namespace secateur {

// SHA-256 over name and digest of each file of a base folder that matters: config, weights,
// tokenizer and the files an expert carries over. Reads all of them. CANCELLED after a cancel.
absl::StatusOr<Digest> DigestOfFolder(const ModelFolder& folder, RunContext& context);

// Keeps digests as objects "models/digest-<identity>.json" of a store, where the identity is the
// SHA-256 of what the file system says about every file of the folder: its path, size, inode, and
// the times of its last change of content and of attributes, to the nanosecond. So a digest is
// found again only while all of these are as they were. An object that is not exactly what we
// write is a miss, and is written anew.
//
// Not remembered: files that changed while they were hashed, or so shortly before that another
// change might leave their times as they are. Old objects stay; each is some 300 bytes.
//
// Thread-safe. Constructors store references, which outlive the object.
class BaseDigests {
 public:
  using HashFile = std::function<absl::StatusOr<Digest>(const std::string& path, RunContext&)>;

  explicit BaseDigests(BlobStore& store, const Clock& clock = Clock::System(),
                       HashFile hash_file = Sha256OfFile);

  // DigestOfFolder, without reading the files where the store remembers it. A store that cannot be
  // read or written is logged, and no error.
  absl::StatusOr<Digest> Of(const ModelFolder& folder, RunContext& context) const;

 private:
  BlobStore& store_;
  const Clock& clock_;
  const HashFile hash_file_;
};

}  // namespace secateur
