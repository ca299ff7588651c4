// Events of operations as write-once objects of a blob store (DESIGN 7), so that operations outlive
// the process: `operations/<id>/<number>.<owner>`, the number six digits, counted from 1, the owner
// eight hex digits that this process drew. Their order is that of their keys.
//
// An object is the SHA-256 of the rest in hex, a newline, and a JSON object (format_version 1;
// bytes in base64). What does not match its digest, or is not such an object, is logged and not
// used: an operation whose beginning cannot be read is left out of Load(), one whose end cannot be
// read is not done yet. Each append is durable when it returns. Thread-safe; one process writes to
// an operation at a time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/jobs/operation_store.h"
#include "server/storage/blob_store.h"

namespace secateur {

class DurableOperationStore final : public OperationStore {
 public:
  explicit DurableOperationStore(BlobStore& blobs);

  absl::Status Append(const std::string& id, const OperationEvent& event) override;
  // The beginning goes first: what a crash leaves of the rest is no operation, and Load() removes
  // it.
  absl::Status Delete(const std::string& id) override;
  absl::StatusOr<std::map<std::string, std::vector<OperationEvent>>> Load() override;
  bool durable() const override { return true; }

 private:
  BlobStore& blobs_;
  const std::string owner_;
  Mutex mutex_;
  std::map<std::string, int64_t> numbers_
      ABSL_GUARDED_BY(mutex_);  // of each operation's last event
};

// The bytes of an event's object, and the event of such bytes: DATA_LOSS when they are not as
// written.
std::string EventToText(const OperationEvent& event);
absl::StatusOr<OperationEvent> EventFromText(std::string_view text);

}  // namespace secateur
