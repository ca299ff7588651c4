#include "server/storage/metered_store.h"

#include <chrono>
#include <string_view>

namespace secateur {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

absl::StatusCode CodeOf(const absl::Status& status) { return status.code(); }
template <class T>
absl::StatusCode CodeOf(const absl::StatusOr<T>& result) {
  return result.status().code();
}

// Runs `call`, counts it as one `operation`, and returns what it returned.
template <class Call>
auto Counted(Metrics& metrics, std::string_view operation, const Call& call) {
  const SteadyClock::time_point start = SteadyClock::now();
  auto result = call();
  metrics.CountStore(operation, CodeOf(result), SecondsSince(start));
  return result;
}

class MeteredWriter final : public BlobWriter {
 public:
  MeteredWriter(std::unique_ptr<BlobWriter> writer, Metrics& metrics, double seconds)
      : writer_(std::move(writer)), metrics_(metrics), seconds_(seconds) {}
  ~MeteredWriter() override { metrics_.CountStore("write", code_, seconds_); }

  absl::Status Append(std::string_view data) override {
    const SteadyClock::time_point start = SteadyClock::now();
    absl::Status status = writer_->Append(data);
    seconds_ += SecondsSince(start);
    if (status.ok()) {
      metrics_.CountStoreBytes("write", static_cast<int64_t>(data.size()));
    } else {
      code_ = status.code();
    }
    return status;
  }

  absl::StatusOr<BlobReceipt> Commit() override {
    const SteadyClock::time_point start = SteadyClock::now();
    absl::StatusOr<BlobReceipt> receipt = writer_->Commit();
    seconds_ += SecondsSince(start);
    code_ = receipt.status().code();
    return receipt;
  }

 private:
  const std::unique_ptr<BlobWriter> writer_;
  Metrics& metrics_;
  double seconds_;
  absl::StatusCode code_ = absl::StatusCode::kCancelled;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlobWriter>> MeteredStore::Create(const std::string& key) {
  const SteadyClock::time_point start = SteadyClock::now();
  absl::StatusOr<std::unique_ptr<BlobWriter>> writer = store_->Create(key);
  const double seconds = SecondsSince(start);
  if (!writer.ok()) {
    metrics_.CountStore("write", writer.status().code(), seconds);
    return writer;
  }
  return std::make_unique<MeteredWriter>(*std::move(writer), metrics_, seconds);
}

absl::StatusOr<std::string> MeteredStore::Read(const std::string& key, int64_t offset,
                                               int64_t length) {
  auto bytes = Counted(metrics_, "read", [&] { return store_->Read(key, offset, length); });
  if (bytes.ok()) metrics_.CountStoreBytes("read", static_cast<int64_t>(bytes->size()));
  return bytes;
}

absl::StatusOr<BlobInfo> MeteredStore::Head(const std::string& key) {
  return Counted(metrics_, "head", [&] { return store_->Head(key); });
}

absl::StatusOr<std::vector<BlobInfo>> MeteredStore::List(const std::string& prefix,
                                                         const std::string& start_after,
                                                         int64_t limit) {
  return Counted(metrics_, "list", [&] { return store_->List(prefix, start_after, limit); });
}

absl::Status MeteredStore::Delete(const std::string& key) {
  return Counted(metrics_, "delete", [&] { return store_->Delete(key); });
}

absl::Status MeteredStore::Check() {
  return Counted(metrics_, "check", [&] { return store_->Check(); });
}

}  // namespace secateur
