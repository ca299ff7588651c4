#include "server/object_storage/object_writer.h"

#include <algorithm>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/object_storage/arrow_store.h"
#include "server/object_storage/object_stream.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

using Buffers = std::vector<std::shared_ptr<arrow::Buffer>>;

std::string RandomName() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

class ObjectWriter final : public BlobWriter {
 public:
  ObjectWriter(std::shared_ptr<Bucket> bucket, std::string key)
      : bucket_(std::move(bucket)),
        key_(std::move(key)),
        scratch_(bucket_->can_abort() ? std::string()
                                      : bucket_->Path(StrCat(kTemporaryFolder, "/", RandomName()))),
        path_(bucket_->can_abort() ? bucket_->Path(key_) : scratch_ + "/object"),
        stream_(std::make_shared<ObjectStream>(bucket_->opened(), path_, scratch_)) {}

  ~ObjectWriter() override {
    if (sending_ != nullptr) (void)bucket_->guard().Finish(sending_);
    Discard();
  }

  absl::Status Append(std::string_view data) override {
    RETURN_IF_ERROR(usable_);
    usable_ = Take(data);
    return usable_;
  }

  absl::StatusOr<BlobReceipt> Commit() override {
    RETURN_IF_ERROR(usable_);
    usable_ =
        absl::FailedPreconditionError(StrCat("the writer of ", key_, " was committed already"));
    const BlobReceipt receipt{size_, hash_.Finish()};
    AddPart(std::move(rest_));
    RETURN_IF_ERROR(Send());
    RETURN_IF_ERROR(FinishSending());
    KeyLocks::Lock lock(bucket_->locks(), key_);
    ASSIGN_OR_RETURN(const bool taken, bucket_->Exists("write", key_));
    if (taken) return KeyTaken(bucket_->uri(), key_);
    RETURN_IF_ERROR(Annotated(Publish()));
    return receipt;
  }

 private:
  absl::Status Take(std::string_view data) {
    if (size_ + static_cast<int64_t>(data.size()) > ArrowStore::kMaxObjectBytes) {
      return absl::ResourceExhaustedError(
          StrCat("cannot write ", key_, " in ", bucket_->uri(), ": it would have more than ",
                 ArrowStore::kMaxObjectBytes, " bytes, the most an object may have"));
    }
    hash_.Update(data);
    size_ += static_cast<int64_t>(data.size());
    while (!data.empty()) {
      const size_t taken =
          std::min(data.size(), static_cast<size_t>(2 * ArrowStore::kPartBytes) - rest_.size());
      rest_.append(data.substr(0, taken));
      data.remove_prefix(taken);
      if (std::ssize(rest_) < 2 * ArrowStore::kPartBytes) return absl::OkStatus();
      std::string next = rest_.substr(static_cast<size_t>(ArrowStore::kPartBytes));
      rest_.resize(static_cast<size_t>(ArrowStore::kPartBytes));
      AddPart(std::exchange(rest_, std::move(next)));
      if (std::ssize(batch_) == ArrowStore::kBatchParts) RETURN_IF_ERROR(Send());
    }
    return absl::OkStatus();
  }

  void AddPart(std::string bytes) { batch_.push_back(arrow::Buffer::FromString(std::move(bytes))); }

  // Begins to send the batch once the one before has arrived.
  absl::Status Send() {
    RETURN_IF_ERROR(FinishSending());
    if (batch_.empty()) return absl::OkStatus();
    const bool small = size_ < ArrowStore::kPartBytes;  // goes whole with Close
    several_ = several_ || !small;
    sending_ = bucket_->guard().Start([stream = stream_, batch = std::exchange(batch_, {}), small,
                                       what = bucket_->What("write", key_)] {
      return FromArrow(stream->Write(batch, !small), what);
    });
    return absl::OkStatus();
  }

  absl::Status FinishSending() {
    if (sending_ == nullptr) return absl::OkStatus();
    return Annotated(bucket_->guard().Finish(std::exchange(sending_, nullptr)));
  }

  absl::Status Annotated(const absl::Status& status) const {
    const std::string what = bucket_->What("write", key_);
    // It is the upload that is not found, which the store has forgotten or finished.
    const auto code = absl::IsNotFound(status) ? absl::StatusCode::kUnavailable : status.code();
    if (status.ok() || absl::StartsWith(status.message(), what)) {
      return absl::Status(code, status.message());
    }
    return absl::Status(code, StrCat(what, ": ", ToStd(status.message())));
  }

  absl::Status Publish() {
    RETURN_IF_ERROR(bucket_->Run("write", key_, [stream = stream_] { return stream->Close(); }));
    if (bucket_->can_abort()) {
      // A request for all of an object is checked by the store; one that puts parts together is
      // not.
      return several_ ? bucket_->CheckSize(key_, path_, size_) : absl::OkStatus();
    }
    const absl::Status copied = CopyToKey();
    bucket_->RemoveFolder(scratch_);
    return copied;
  }

  absl::Status CopyToKey() {
    RETURN_IF_ERROR(bucket_->CheckSize(key_, path_, size_));
    const std::string to = bucket_->Path(key_);
    RETURN_IF_ERROR(bucket_->Run("write", key_, [arrow = bucket_->arrow(), from = path_, to] {
      return arrow->CopyFile(from, to);
    }));
    return bucket_->CheckSize(key_, to, size_);
  }

  // In another thread: the last to let go of a stream waits for the store. A call that was given up
  // may still have it, and need not be the last.
  void Discard() {
    if (stream_.use_count() > 1) {
      std::thread([stream = std::exchange(stream_, nullptr)] {}).detach();
      return;
    }
    bucket_->guard()
        .Run([stream = std::exchange(stream_, nullptr)] {
          stream->Discard();
          return absl::OkStatus();
        })
        .IgnoreError();
  }

  const std::shared_ptr<Bucket> bucket_;
  const std::string key_;
  const std::string scratch_;  // a folder of its own, where there is no abort
  const std::string path_;
  std::shared_ptr<ObjectStream> stream_;
  Sha256 hash_;
  int64_t size_ = 0;
  bool several_ = false;  // parts were sent
  // Less than two parts. All of it is the last one: Arrow sends what is less than a part with
  // Close, after whose failure it can no longer abort.
  std::string rest_;
  Buffers batch_;
  std::shared_ptr<StallGuard::Task> sending_;
  absl::Status usable_;
};

}  // namespace

std::unique_ptr<BlobWriter> MakeObjectWriter(std::shared_ptr<Bucket> bucket, std::string key) {
  return std::make_unique<ObjectWriter>(std::move(bucket), std::move(key));
}

}  // namespace secateur
