#include "server/admin/object_check.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "secateur/v1/manifest.pb.h"
#include "server/artifact/expiry.h"
#include "server/artifact/manifest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/event_text.h"
#include "server/profile/profile_file.h"

namespace secateur {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr int64_t kMostSmallBytes = int64_t{64} << 10;  // of a lease or a model's digest
constexpr int64_t kMostManifestBytes = int64_t{64} << 20;

absl::StatusOr<Digest> DigestOf(BlobStore& store, const BlobInfo& object) {
  Sha256 digest;
  for (int64_t at = 0; at < object.size;) {
    ASSIGN_OR_RETURN(const std::string piece, store.Read(object.key, at, kPieceBytes));
    if (piece.empty()) break;
    digest.Update(piece);
    at += std::ssize(piece);
  }
  return digest.Finish();
}

absl::Status CheckExpected(BlobStore& store, const BlobInfo& object, const Expected& expected) {
  if (expected.size.value_or(object.size) != object.size) {
    return absl::DataLossError(
        StrCat("it has ", object.size, " bytes; ", expected.by, " says ", *expected.size));
  }
  ASSIGN_OR_RETURN(const Digest digest, DigestOf(store, object));
  if (digest == expected.digest) return absl::OkStatus();
  return absl::DataLossError(
      StrCat("its SHA-256 is ", digest.Hex(), "; ", expected.by, " says ", expected.digest.Hex()));
}

absl::Status CheckProfile(BlobStore& store, const BlobInfo& object, const ObjectName& name) {
  ASSIGN_OR_RETURN(const Digest digest, DigestOf(store, object));
  if (!name.leaf.starts_with(digest.Hex())) {
    return absl::DataLossError(StrCat("its SHA-256 is ", digest.Hex(), ", not that of its name"));
  }
  ASSIGN_OR_RETURN(
      const std::string beginning,
      store.Read(object.key, 0, kProfileHeaderLimit + static_cast<int64_t>(sizeof(uint64_t))));
  const auto summary = ReadProfileSummary(object.key, beginning, object.size);
  if (absl::IsUnimplemented(summary.status())) return absl::OkStatus();  // of another version
  if (!summary.ok()) return absl::DataLossError(summary.status().message());
  if (summary->key.id() == name.id) return absl::OkStatus();
  return absl::DataLossError(StrCat("its header says profile ", summary->key.id()));
}

absl::Status CheckManifest(BlobStore& store, const BlobInfo& object, const ObjectName& name) {
  ASSIGN_OR_RETURN(const std::string text, store.ReadAll(object.key, kMostManifestBytes));
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(text));
  const std::string id = ExpertIdOf(manifest.request());
  if (id == name.id) return absl::OkStatus();
  return absl::DataLossError(StrCat("its request is that of expert ", id));
}

absl::Status CheckModelDigest(const std::string& bytes, const ObjectName& name) {
  auto json = nlohmann::ordered_json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.dump() + "\n" != bytes || !json.contains("sha256") ||
      !json.contains("files")) {
    return absl::DataLossError("it is not as a server writes it");
  }
  const nlohmann::ordered_json stated = json["sha256"];
  json.erase("sha256");
  if (stated != Sha256Of(json.dump()).Hex()) {
    return absl::DataLossError("its SHA-256 does not match");
  }
  if (json["files"].is_string() &&
      StrCat("digest-", json["files"].get<std::string>(), ".json") == name.leaf) {
    return absl::OkStatus();
  }
  return absl::DataLossError("it belongs under another key");
}

absl::Status CheckSmall(BlobStore& store, const BlobInfo& object, const ObjectName& name) {
  const auto bytes = store.ReadAll(object.key, kMostSmallBytes);
  if (absl::IsResourceExhausted(bytes.status())) {
    return absl::DataLossError("it is larger than any");
  }
  RETURN_IF_ERROR(bytes.status());
  if (name.kind == ObjectKind::kExpiry) {
    if (*bytes == ExpiryText(name.leaf)) return absl::OkStatus();
    return absl::DataLossError("it does not say what its name does");
  }
  if (name.kind == ObjectKind::kModelDigest) return CheckModelDigest(*bytes, name);
  return CheckDigest(*bytes).status();
}

}  // namespace

absl::Status CheckObject(BlobStore& store, const Inventory& inventory, const BlobInfo& object) {
  const auto known = inventory.damaged.find(object.key);
  if (known != inventory.damaged.end()) return absl::DataLossError(known->second);
  const ObjectName name = ParseObjectName(object.key);
  switch (name.kind) {
    case ObjectKind::kProfile:
      return CheckProfile(store, object, name);
    case ObjectKind::kManifest:
      return CheckManifest(store, object, name);
    case ObjectKind::kExpiry:
    case ObjectKind::kLease:
    case ObjectKind::kModelDigest:
      return CheckSmall(store, object, name);
    case ObjectKind::kDocuments:
    case ObjectKind::kExpertFile: {
      const auto tenant = inventory.tenants.find(name.tenant);
      if (tenant == inventory.tenants.end()) return absl::OkStatus();
      const auto expected = tenant->second.expected.find(object.key);
      if (expected == tenant->second.expected.end()) return absl::OkStatus();
      return CheckExpected(store, object, expected->second);
    }
    default:
      return absl::OkStatus();
  }
}

}  // namespace secateur
