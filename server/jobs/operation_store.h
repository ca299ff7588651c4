// Events of operations as write-once objects of a blob store (decisions/0011): operations outlive
// the process and every process sees them: `operations/<id>/<epoch>.<owner>.<number>`, epoch and
// number six digits, counted from 1, the owner 16 hex digits. event_text.h says what is in them.
// Objects of other names are left alone. Thread-safe.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/jobs/operation_fold.h"
#include "server/storage/blob_store.h"

namespace secateur {

class OperationStore {
 public:
  using Keys = std::set<EventKey>;

  explicit OperationStore(BlobStore& blobs) : blobs_(blobs) {}  // outlives it

  // Durable when OK; also OK when this very event is there already: nobody else writes its key.
  absl::Status Put(const std::string& id, const StoredEvent& event);

  // Of one operation; empty when there is none.
  absl::StatusOr<Keys> KeysOf(const std::string& id);
  struct Listed {
    Keys keys;
    absl::Time modified = absl::InfinitePast();  // of the last that was written
  };
  absl::StatusOr<std::map<std::string, Listed>> ListAll();
  // The events of `keys`, except those that are gone by now and those that are damaged, which are
  // logged and stay where they are. An error is the store's: try again.
  absl::StatusOr<std::vector<StoredEvent>> Read(const std::string& id, const Keys& keys);

  // One event; OK also when it is gone.
  absl::Status Remove(const std::string& id, const EventKey& key);
  // All of an operation, the beginning first: what a crash leaves of the rest is no operation.
  absl::Status Delete(const std::string& id);

 private:
  BlobStore& blobs_;
};

}  // namespace secateur
