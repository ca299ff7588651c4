// What ExpertStore does with the files of an expert: reads them, and copies them elsewhere.
#include <algorithm>
#include <functional>
#include <iterator>
#include <memory>

#include "server/artifact/expert_store.h"
#include "server/artifact/manifest_files.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

// Reads `file` piece by piece; what was visited is good only when the result is OK.
absl::Status ReadChecked(BlobStore& blobs, const std::string& key, const ArtifactFile& file,
                         const std::function<absl::Status(std::string_view)>& visit) {
  Sha256 digest;
  for (int64_t at = 0; at < file.size;) {
    ASSIGN_OR_RETURN(const std::string piece,
                     blobs.Read(key, at, std::min(kPieceBytes, file.size - at)));
    if (piece.empty()) break;
    digest.Update(piece);
    RETURN_IF_ERROR(visit(piece));
    at += static_cast<int64_t>(piece.size());
  }
  const Digest found = digest.Finish();
  if (found == file.digest) return absl::OkStatus();
  return absl::DataLossError(StrCat(key, " in ", blobs.uri(), " has the SHA-256 ", found.Hex(),
                                    "; its manifest says ", file.digest.Hex()));
}

// Told the bytes that were just read; an error ends the work.
using ByteCounter = std::function<absl::Status(int64_t)>;

// OK when the target's file of this name, left by an earlier copy, holds the same bytes.
absl::Status CheckSame(BlobStore& target, const ArtifactFile& file, const ByteCounter& count) {
  ASSIGN_OR_RETURN(const BlobInfo there, target.Head(file.name));
  absl::Status same = absl::DataLossError("sizes differ");
  if (there.size == file.size) {
    same = ReadChecked(target, file.name, file, [&](std::string_view piece) {
      return count(static_cast<int64_t>(piece.size()));
    });
  }
  if (!absl::IsDataLoss(same)) return same;
  return absl::AlreadyExistsError(StrCat(target.uri(), " holds another ", file.name,
                                         "; choose a folder without files of these names"));
}

absl::Status CopyOne(BlobStore& source, const std::string& prefix, const ArtifactFile& file,
                     BlobStore& target, const ByteCounter& count) {
  absl::StatusOr<std::unique_ptr<BlobWriter>> writer = target.Create(file.name);
  if (absl::IsAlreadyExists(writer.status())) return CheckSame(target, file, count);
  RETURN_IF_ERROR(writer.status());
  const auto append = [&](std::string_view piece) -> absl::Status {
    RETURN_IF_ERROR(count(static_cast<int64_t>(piece.size())));
    return (*writer)->Append(piece);
  };
  RETURN_IF_ERROR(ReadChecked(source, prefix + file.name, file, append));
  return (*writer)->Commit().status();
}

}  // namespace

absl::StatusOr<std::string> ExpertStore::ReadFile(const StoredExpert& expert,
                                                  const std::string& name, int64_t offset,
                                                  int64_t length) const {
  const auto found = std::find_if(expert.files.begin(), expert.files.end(),
                                  [&](const ArtifactFile& file) { return file.name == name; });
  if (found == expert.files.end() && name != kManifestName) {
    return absl::NotFoundError(StrCat("expert ", expert.id, " has no file \"", name, "\""));
  }
  const int64_t size = found == expert.files.end() ? expert.manifest.size : found->size;
  if (offset < 0 || length < 0 || offset > size) {
    return absl::OutOfRangeError(StrCat("offset ", offset, ", length ", length, ": ", name, " of ",
                                        expert.id, " has ", size, " bytes"));
  }
  const int64_t wanted = std::min({length, kPieceBytes, size - offset});
  if (wanted == 0) return std::string();
  ASSIGN_OR_RETURN(std::string bytes, blobs_.Read(expert.prefix + name, offset, wanted));
  if (static_cast<int64_t>(bytes.size()) != wanted) {
    return absl::DataLossError(StrCat(name, " of expert ", expert.id, " ends at byte ",
                                      offset + static_cast<int64_t>(bytes.size()),
                                      "; its manifest says ", size));
  }
  return bytes;
}

absl::Status ExpertStore::CopyTo(const StoredExpert& expert, BlobStore& target,
                                 RunContext& context) const {
  const std::string manifest(kManifestName);
  const absl::StatusOr<std::string> there =
      target.ReadAll(manifest, std::ssize(expert.manifest_json));
  if (there.ok() && *there == expert.manifest_json) return absl::OkStatus();
  if (there.ok() || absl::IsResourceExhausted(there.status())) {  // another, or a longer one
    return absl::AlreadyExistsError(
        StrCat(target.uri(), " holds another expert; choose an empty folder"));
  }
  if (!absl::IsNotFound(there.status())) return there.status();
  int64_t done = 0;
  for (const ArtifactFile& file : expert.files) {
    const auto report = [&](int64_t bytes) -> absl::Status {
      done += bytes;
      context.Report({"copy", done, expert.bytes(), "bytes"});
      return context.CheckCancelled();
    };
    RETURN_IF_ERROR(CopyOne(blobs_, expert.prefix, file, target, report));
  }
  return target.Put(manifest, expert.manifest_json).status();
}

}  // namespace secateur
