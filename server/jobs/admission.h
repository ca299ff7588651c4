// What accepted operations may take together, from acceptance to their end: operations, in all and
// of each tenant, bytes of memory and bytes on disk. What does not fit is refused before it costs
// anything.
//
// Memory and temporary files count while work runs, and no more than `Limits::running` operations
// run at once: of those accepted the largest so many count. What is stored stays: all of it counts.
//
// Thread-safe and quick.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/storage/disk_room.h"

namespace secateur {

// What one operation takes at most, as far as can be told from its request.
struct JobNeeds {
  int64_t memory_bytes = 0;     // while it runs, beside what the server holds anyway
  int64_t temporary_bytes = 0;  // in temporary files, while it runs
  int64_t stored_bytes = 0;     // in the store
};

class Admission {
 public:
  // By all that is accepted.
  struct Use {
    int64_t operations = 0;
    int64_t memory_bytes = 0;
    int64_t disk_bytes = 0;
    friend bool operator==(const Use&, const Use&) = default;
  };
  struct Limits {
    int64_t operations = 66;            // that wait or run
    int64_t operations_per_tenant = 0;  // 0: as many as there may be in all
    int running = 2;                    // that run at once
    int64_t memory_bytes = 0;           // 0: any
    // Of the store and of temporary files together, asked at each request; 0: any.
    std::function<DiskRoom()> disk = [] { return DiskRoom(); };
    absl::Duration retry_after = absl::Seconds(5);
    // Hears of each change, one after the other; must be quick and must not call back.
    std::function<void(const Use&)> on_change = [](const Use&) {};
  };

  // A place among the accepted operations; given back by its destructor. Must not outlive the
  // Admission.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation() { Release(); }
    void Release();

   private:
    friend class Admission;
    Reservation(Admission* owner, std::string tenant, const JobNeeds& needs)
        : owner_(owner), tenant_(std::move(tenant)), needs_(needs) {}
    Admission* owner_ = nullptr;
    std::string tenant_;
    JobNeeds needs_;
  };

  explicit Admission(Limits limits) : limits_(std::move(limits)) {}

  // RESOURCE_EXHAUSTED naming limit, use and flag, with a violation of the same words about the
  // tenant or the "server": reason TENANT_QUOTA, QUEUE_FULL, MEMORY_RESERVED or DISK_RESERVED with
  // a time to try again; TOO_LARGE for what could not be taken even alone and, of a disk, with all
  // else on it gone.
  absl::StatusOr<Reservation> Reserve(const std::string& tenant, const JobNeeds& needs);
  // Counts like any other, whatever the limits: of work that was accepted before.
  Reservation TakeOn(const std::string& tenant, const JobNeeds& needs);

  Use InAll() const;
  int64_t OperationsOf(const std::string& tenant) const;

 private:
  using Largest = std::multiset<int64_t, std::greater<>>;

  absl::Status CheckPlaces(const std::string& tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckMemory(const JobNeeds& needs) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckDisk(const JobNeeds& needs, const DiskRoom& room) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Use Sum() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The sum of as many as may run at once, one of `more` bytes beside them.
  int64_t WhileRunning(const Largest& bytes, int64_t more) const;
  Reservation Add(const std::string& tenant, const JobNeeds& needs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveBack(const std::string& tenant, const JobNeeds& needs);

  const Limits limits_;
  mutable Mutex mutex_;
  int64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int64_t> of_tenants_ ABSL_GUARDED_BY(mutex_);  // none of 0
  Largest memory_ ABSL_GUARDED_BY(mutex_), temporary_ ABSL_GUARDED_BY(mutex_);
  int64_t stored_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace secateur
