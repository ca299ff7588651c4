// SecateurClient::UploadCorpus.
#include "client/secateur_client.h"

namespace secateur {
namespace {

constexpr size_t kChunk = 1 << 20;

using Writer = grpc::ClientWriterInterface<v1::UploadCorpusRequest>;

// Sends until the source ends, or the server needs no more: it has answered or failed, and Finish
// tells which.
absl::Status SendAll(const v1::UploadCorpusMetadata& metadata, const ByteSource& source,
                     Writer& writer) {
  v1::UploadCorpusRequest message;
  *message.mutable_metadata() = metadata;
  bool wanted = writer.Write(message);
  while (wanted && !message.finish()) {
    std::string& data = *message.mutable_data();
    data.resize(kChunk);
    const absl::StatusOr<size_t> size = source(data.data(), data.size());
    if (!size.ok()) return size.status();
    data.resize(*size);
    // Without this word a stream that ends is one that was cut off.
    message.set_finish(*size == 0);
    wanted = writer.Write(message);
  }
  if (wanted) writer.WritesDone();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::UploadCorpusResponse> SecateurClient::UploadCorpus(
    const v1::UploadCorpusMetadata& metadata, const ByteSource& source) const {
  grpc::ClientContext context;
  connection_->Prepare(context, absl::InfiniteDuration());
  v1::UploadCorpusResponse response;
  const auto writer = connection_->secateur->UploadCorpus(&context, &response);
  const absl::Status sent = SendAll(metadata, source, *writer);
  if (!sent.ok()) context.TryCancel();
  const absl::Status status = FromGrpcStatus(writer->Finish());
  if (!sent.ok()) return sent;
  if (!status.ok()) return status;
  return response;
}

}  // namespace secateur
