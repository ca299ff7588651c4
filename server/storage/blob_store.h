// Where everything durable lives: a flat space of objects under slash-separated keys.
//
// Objects are written once under unique or content-derived names and never overwritten; presence of
// an object proves nothing until a manifest names it. A key is 1 to 512 bytes of
// [A-Za-z0-9._-] parts joined by '/', no part is empty, "." or "..", longer than 255 bytes (the
// most a file name can have), and the first is not ".tmp" (where local stores write); anything else
// is INVALID_ARGUMENT. Keys are compared as bytes. A folder cannot hold a file "a" and a file
// "a/b", so no store does: making one while the other exists is FAILED_PRECONDITION. Every store is
// thread-safe and outlives its writers; one writer belongs to one thread at a time.
//
// Errors name the store and the key. NOT_FOUND: no such object (folders, symlinks and special files
// of a local folder are none). ALREADY_EXISTS: the key is taken.
// RESOURCE_EXHAUSTED: no space. UNAVAILABLE: try again later. DATA_LOSS: bytes do not match.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/digest.h"

namespace secateur {

struct BlobInfo {
  std::string key;
  int64_t size = 0;     // bytes
  absl::Time modified;  // by the store's clock
};

// What Commit() published.
struct BlobReceipt {
  int64_t size = 0;  // bytes
  Digest digest;     // SHA-256 of the bytes, computed while they were written
};

// An object being written. Nothing is visible before Commit() returns OK; the destructor without a
// Commit() discards everything. Legal order: Append* then Commit() once; after any error only
// destruction.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual absl::Status Append(std::string_view data) = 0;
  // Durable and visible when OK. ALREADY_EXISTS if the key came into being meanwhile: the bytes
  // there are untouched.
  virtual absl::StatusOr<BlobReceipt> Commit() = 0;
};

class BlobStore {
 public:
  virtual ~BlobStore() = default;

  // "file:/data/store" or "memory:": for logs and errors; never holds credentials.
  virtual const std::string& uri() const = 0;

  // ALREADY_EXISTS when the key is taken. Several writers may write one key; one Commit wins.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) = 0;
  // Create, Append, Commit.
  absl::StatusOr<BlobReceipt> Put(const std::string& key, std::string_view data);

  // `length` bytes from `offset`, fewer only at the end of the object; OUT_OF_RANGE when `offset`
  // is past the end or either is negative.
  virtual absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                           int64_t length) = 0;
  // The whole object; RESOURCE_EXHAUSTED when it is larger than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(const std::string& key, int64_t max_bytes);

  virtual absl::StatusOr<BlobInfo> Head(const std::string& key) = 0;
  // Objects whose key starts with `prefix`, in key order, keys after `start_after` only, at most
  // `limit` (INVALID_ARGUMENT when negative). `prefix` may be empty or end inside a part; one that
  // no key can start with matches nothing.
  virtual absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                                     const std::string& start_after,
                                                     int64_t limit) = 0;
  // OK also when there is no such object.
  virtual absl::Status Delete(const std::string& key) = 0;

  // A path on this machine that holds the object's bytes, for mapping, if the store is a local
  // folder; valid until the object is deleted.
  virtual std::optional<std::string> LocalPath(const std::string& key) = 0;
  // OK when the store answers and can be written to.
  virtual absl::Status Check() = 0;
  // RESOURCE_EXHAUSTED when there is so little room left that no new work should begin. OK for
  // stores that have no end.
  virtual absl::Status CheckRoom() { return absl::OkStatus(); }
};

// INVALID_ARGUMENT with the reason when `key` is not of the form above.
absl::Status CheckBlobKey(std::string_view key);

}  // namespace secateur
