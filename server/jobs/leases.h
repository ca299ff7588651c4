// Which processes on this store are alive, by the store's clock.
//
// Each process keeps a lease: write-once objects `replicas/<owner>/<number>` of which the newest
// counts and older ones are removed, except the last but one (a listing that overlaps a renewal
// must not miss both). "Now" is the time that the store gives the lease that this process wrote
// last: no clocks of two machines are compared. A lease counts until it is older than the time that
// it says itself; one of a process on this machine that is known to have ended does not count; one
// that was released is not there.
//
// Thread-safe. Renew, Look and Release work with the store; the rest answers at once.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/process_id.h"
#include "server/storage/blob_store.h"

namespace secateur {

class Leases {
 public:
  struct Options {
    absl::Duration ttl = absl::Seconds(60);  // renewed six times within
    ProcessId self = ProcessId::OfThis();
  };

  // Draws the owner's name. `blobs` and `clock` must outlive it; `clock` measures durations only.
  Leases(BlobStore& blobs, const Clock& clock, Options options);

  const std::string& owner() const { return owner_; }  // 16 hex digits, of this process
  absl::Duration renew_every() const { return options_.ttl / 6; }

  // Writes a lease when the last one is `renew_every` old. OK when there was nothing to do.
  absl::Status Renew();
  // False when others may hold this process for dead: its last lease is older than the time that
  // leases count. It then stops its work (operation_steps.h) until a lease can be written again.
  bool held() const;
  // Removes the lease; none is written any more.
  void Release();

  // Reads the leases of all. Also removes those that lapsed long ago.
  absl::Status Look();
  // As of the last Look() and Renew(). This process itself is alive until Release().
  bool Alive(const std::string& owner) const;
  std::set<std::string> alive() const;
  // The store's time when this process's lease was written; InfinitePast() before the first.
  absl::Time store_now() const;

 private:
  struct Lease {
    int64_t number = 0;
    absl::Time modified;
    absl::Duration ttl;
    ProcessId process;
    bool read = false;  // ttl and process are what the object says
  };

  absl::Status Write(int64_t number);
  absl::StatusOr<Lease> Read(const BlobInfo& object, int64_t number) const;
  bool Counts(const Lease& lease) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLapsed(const std::map<std::string, std::vector<std::string>>& objects);

  BlobStore& blobs_;
  const Clock& clock_;
  const Options options_;
  const std::string owner_;

  Mutex renewing_;  // held while the store works; before mutex_
  int64_t number_ ABSL_GUARDED_BY(renewing_) = 0;
  bool released_ ABSL_GUARDED_BY(renewing_) = false;

  mutable Mutex mutex_;
  absl::Time renewed_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();    // begun, by our clock
  absl::Time store_now_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // by the store's
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Lease> leases_ ABSL_GUARDED_BY(mutex_);  // of others, the newest of each
};

}  // namespace secateur
