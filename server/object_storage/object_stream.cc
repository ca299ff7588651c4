#include "server/object_storage/object_stream.h"

#include <utility>

#include "server/object_storage/arrow_errors.h"

namespace secateur {

ObjectStream::ObjectStream(const ObjectFilesystem& store, std::string path, std::string scratch)
    : store_(store), path_(std::move(path)), scratch_(std::move(scratch)) {}

arrow::Status ObjectStream::Write(const std::vector<std::shared_ptr<arrow::Buffer>>& parts,
                                  bool wait) {
  if (stream_ == nullptr) {
    ARROW_ASSIGN_OR_RAISE(stream_,
                          CallArrow([&] { return store_.arrow->OpenOutputStream(path_); }));
  }
  for (const std::shared_ptr<arrow::Buffer>& part : parts) {
    ARROW_RETURN_NOT_OK(CallArrow([&] { return stream_->Write(part); }));
  }
  return wait ? CallArrow([&] { return stream_->Flush(); }) : arrow::Status::OK();
}

arrow::Status ObjectStream::Close() {
  const arrow::Status closed = CallArrow([&] { return stream_->Close(); });
  if (closed.ok()) {
    stream_ = nullptr;
    return closed;
  }
  Discard();
  // After Close has failed Abort does nothing, and parts stay behind.
  if (store_.uploads != nullptr) {
    store_.uploads->AbortOnly(path_.substr(path_.find('/') + 1)).IgnoreError();
  }
  return closed;
}

void ObjectStream::Discard() {
  const std::shared_ptr<arrow::io::OutputStream> stream = std::exchange(stream_, nullptr);
  if (stream == nullptr) return;
  // Abort does not wait for parts in flight, which would land after it and stay; Flush does.
  (void)CallArrow([&] { return stream->Flush(); });
  // Whatever was thrown so far: a stream that is not aborted calls the store in its destructor.
  (void)CallArrow([&] { return stream->Abort(); });
  if (!scratch_.empty()) (void)CallArrow([&] { return store_.arrow->DeleteDir(scratch_); });
}

}  // namespace secateur
