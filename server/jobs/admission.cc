#include "server/jobs/admission.h"

#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr char kServer[] = "server";  // whose limit it is, where it is no tenant's

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

absl::Status Refusal(const std::string& subject, const std::string& message) {
  return WithViolation(absl::ResourceExhaustedError(message), subject, message);
}

absl::Status TooLarge(int64_t needed, const std::string& kind, int64_t limit,
                      const std::string& flag) {
  return WithReason(
      Refusal(kServer, StrCat("this takes up to ", Mebibytes(needed), " of ", kind,
                              ", and all operations together may have ", Mebibytes(limit), " (",
                              flag, "): it does not fit here; ask for less, or raise that")),
      "TOO_LARGE");
}

std::string Reserved(int64_t needed, const std::string& kind, int64_t in_all, int64_t limit,
                     const std::string& flag) {
  return StrCat("this takes up to ", Mebibytes(needed), " of ", kind,
                "; with what is accepted already that comes to ", Mebibytes(in_all), " of ",
                Mebibytes(limit), " (", flag, "): try again when there is room");
}

}  // namespace

Admission::Reservation& Admission::Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  Release();
  owner_ = std::exchange(other.owner_, nullptr);
  tenant_ = std::move(other.tenant_);
  needs_ = other.needs_;
  return *this;
}

void Admission::Reservation::Release() {
  if (Admission* owner = std::exchange(owner_, nullptr)) owner->GiveBack(tenant_, needs_);
}

absl::StatusOr<Admission::Reservation> Admission::Reserve(const std::string& tenant,
                                                          const JobNeeds& needs) {
  const DiskRoom room = limits_.disk();
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(CheckMemory(needs));
  RETURN_IF_ERROR(CheckDisk(needs, room));
  RETURN_IF_ERROR(CheckPlaces(tenant));
  return Add(tenant, needs);
}

Admission::Reservation Admission::TakeOn(const std::string& tenant, const JobNeeds& needs) {
  MutexLock lock(mutex_);
  return Add(tenant, needs);
}

absl::Status Admission::CheckPlaces(const std::string& tenant) const {
  const auto found = of_tenants_.find(tenant);
  const int64_t of_tenant = found == of_tenants_.end() ? 0 : found->second;
  const int64_t most = limits_.operations_per_tenant;
  if (most > 0 && of_tenant >= most) {
    return WithReason(
        WithRetryAfter(
            Refusal(tenant,
                    StrCat(tenant, " has ", of_tenant, " operations that are not done, of ", most,
                           " (--max-operations-per-tenant): wait for one to end, or cancel "
                           "one")),
            limits_.retry_after),
        "TENANT_QUOTA");
  }
  if (operations_ < limits_.operations) return absl::OkStatus();
  return WithReason(
      WithRetryAfter(Refusal(kServer, StrCat("the queue is full (", operations_,
                                             " operations wait or run, of ", limits_.operations,
                                             "): try again in a few seconds, or raise "
                                             "--max-queued-operations")),
                     limits_.retry_after),
      "QUEUE_FULL");
}

absl::Status Admission::CheckMemory(const JobNeeds& needs) const {
  constexpr char kKind[] = "memory", kFlag[] = "--max-reserved-memory-bytes";
  const int64_t needed = needs.memory_bytes, limit = limits_.memory_bytes;
  if (limit <= 0 || needed <= 0) return absl::OkStatus();
  if (needed > limit) return TooLarge(needed, kKind, limit, kFlag);
  const int64_t in_all = WhileRunning(memory_, needed);
  if (in_all <= limit) return absl::OkStatus();
  return WithReason(WithRetryAfter(Refusal(kServer, Reserved(needed, kKind, in_all, limit, kFlag)),
                                   limits_.retry_after),
                    "MEMORY_RESERVED");
}

absl::Status Admission::CheckDisk(const JobNeeds& needs, const DiskRoom& room) const {
  constexpr char kKind[] = "disk", kFlag[] = "--max-reserved-disk-bytes, or what is free";
  const int64_t needed = needs.stored_bytes + needs.temporary_bytes, limit = room.now;
  if (limit <= 0 || needed <= 0) return absl::OkStatus();
  if (needed > room.ever) {
    return TooLarge(needed, kKind, room.ever, "--max-reserved-disk-bytes, or the disk's size");
  }
  const int64_t in_all =
      stored_ + needs.stored_bytes + WhileRunning(temporary_, needs.temporary_bytes);
  if (in_all <= limit) return absl::OkStatus();
  return WithReason(WithRetryAfter(Refusal(kServer, Reserved(needed, kKind, in_all, limit, kFlag)),
                                   limits_.retry_after),
                    "DISK_RESERVED");
}

int64_t Admission::WhileRunning(const Largest& bytes, int64_t more) const {
  int64_t sum = 0;
  int left = limits_.running;
  for (auto at = bytes.begin(); left > 0; --left) {
    if (at != bytes.end() && *at >= more) {
      sum += *at++;
    } else {
      sum += std::exchange(more, 0);
      if (at == bytes.end()) break;
    }
  }
  return sum;
}

Admission::Reservation Admission::Add(const std::string& tenant, const JobNeeds& needs) {
  ++operations_;
  ++of_tenants_[tenant];
  memory_.insert(needs.memory_bytes);
  temporary_.insert(needs.temporary_bytes);
  stored_ += needs.stored_bytes;
  limits_.on_change(Sum());
  return Reservation(this, tenant, needs);
}

void Admission::GiveBack(const std::string& tenant, const JobNeeds& needs) {
  MutexLock lock(mutex_);
  --operations_;
  if (--of_tenants_[tenant] == 0) of_tenants_.erase(tenant);
  memory_.erase(memory_.find(needs.memory_bytes));
  temporary_.erase(temporary_.find(needs.temporary_bytes));
  stored_ -= needs.stored_bytes;
  limits_.on_change(Sum());
}

Admission::Use Admission::Sum() const {
  return {.operations = operations_,
          .memory_bytes = WhileRunning(memory_, 0),
          .disk_bytes = stored_ + WhileRunning(temporary_, 0)};
}

Admission::Use Admission::InAll() const {
  MutexLock lock(mutex_);
  return Sum();
}

int64_t Admission::OperationsOf(const std::string& tenant) const {
  MutexLock lock(mutex_);
  const auto found = of_tenants_.find(tenant);
  return found == of_tenants_.end() ? 0 : found->second;
}

}  // namespace secateur
