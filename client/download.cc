#include "client/download.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/partial_file.h"

namespace secateur {
namespace {

// A stream is renewed this often, so that a connection that died in silence is noticed.
constexpr absl::Duration kStreamLimit = absl::Minutes(10);
constexpr int kTriesWithoutProgress = 6;

absl::Status CheckAnnouncement(const v1::DownloadExpertFileResponse& first,
                               const v1::ExpertFile& file) {
  if (!first.has_file()) {
    return absl::DataLossError(
        absl::StrCat(file.name(), ": the stream does not begin with size and digest"));
  }
  if (first.file().size_bytes() != file.size_bytes() || first.file().sha256() != file.sha256()) {
    return absl::DataLossError(absl::StrCat(
        file.name(), ": the stream announces ", first.file().size_bytes(), " bytes with SHA-256 ",
        first.file().sha256(), "; the expert lists ", file.size_bytes(), " with ", file.sha256()));
  }
  return absl::OkStatus();
}

// Takes the messages of one stream until it ends or something is wrong with one.
absl::Status Take(grpc::ClientReaderInterface<v1::DownloadExpertFileResponse>& reader,
                  const v1::ExpertFile& file, PartialFile& partial,
                  const DownloadProgress& progress) {
  v1::DownloadExpertFileResponse message;
  for (bool first = true; reader.Read(&message); first = false) {
    const absl::Status status =
        first ? CheckAnnouncement(message, file) : partial.Append(message.data());
    if (!status.ok()) return status;
    if (progress) progress(partial.size(), file.size_bytes());
  }
  return absl::OkStatus();
}

absl::Status StreamRest(const ClientConnection& connection, const std::string& expert,
                        const v1::ExpertFile& file, PartialFile& partial,
                        const DownloadProgress& progress) {
  grpc::ClientContext context;
  connection.Prepare(context, kStreamLimit);
  v1::DownloadExpertFileRequest request;
  request.set_name(expert);
  request.set_file(file.name());
  request.set_offset(partial.size());
  const auto reader = connection.secateur->DownloadExpertFile(&context, request);
  const absl::Status taken = Take(*reader, file, partial, progress);
  if (!taken.ok()) context.TryCancel();
  const absl::Status status = FromGrpcStatus(reader->Finish());
  return taken.ok() ? status : taken;
}

bool CanResume(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// Streams until the server says that all was sent, taking up broken streams.
absl::Status StreamAll(const ClientConnection& connection, const std::string& expert,
                       const v1::ExpertFile& file, PartialFile& partial,
                       const DownloadProgress& progress) {
  absl::Duration pause = absl::Milliseconds(100);
  for (int tries = kTriesWithoutProgress;;) {
    const int64_t before = partial.size();
    const absl::Status status = StreamRest(connection, expert, file, partial, progress);
    if (partial.size() > before) {
      tries = kTriesWithoutProgress;
      pause = absl::Milliseconds(100);
    }
    if (status.ok() || !CanResume(status) || --tries == 0) return status;
    const absl::Duration asked = DetailsOfStatus(status).retry_after.value_or(pause);
    absl::SleepFor(std::min(asked, absl::Seconds(30)));
    pause *= 2;
  }
}

}  // namespace

absl::Status DownloadFile(const ClientConnection& connection, const std::string& expert,
                          const v1::ExpertFile& file, const std::string& folder,
                          const DownloadProgress& progress) {
  if (absl::Status status = CheckExpertFile(file); !status.ok()) return status;
  const absl::StatusOr<bool> present = HasExpertFile(folder, file);
  if (!present.ok() || *present) {
    if (present.ok() && progress) progress(file.size_bytes(), file.size_bytes());
    return present.status();
  }
  const auto partial = PartialFile::Open(folder, file);
  if (!partial.ok()) return partial.status();
  absl::Status status = StreamAll(connection, expert, file, **partial, progress);
  if (status.ok()) status = (*partial)->Publish();
  if (absl::IsDataLoss(status)) (*partial)->Discard();
  return status;
}

}  // namespace secateur
