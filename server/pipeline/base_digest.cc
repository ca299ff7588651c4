#include "server/pipeline/base_digest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/time/time.h"
#include "server/artifact/hf_layout.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 1;
constexpr int64_t kMaxBytes = 4096;  // of an object of ours
// Longer than the steps of any file system's clock.
constexpr absl::Duration kSettled = absl::Seconds(3);

absl::StatusOr<std::set<std::string>> FileNames(const ModelFolder& folder) {
  ASSIGN_OR_RETURN(const std::vector<std::string> carried, CarriedFiles(folder.path()));
  std::set<std::string> names(carried.begin(), carried.end());
  names.insert({"config.json", "tokenizer.json"});
  for (const SafetensorsReader& file : folder.tensors().files()) {
    names.insert(fs::path(file.name()).filename().string());
  }
  return names;
}

absl::StatusOr<Digest> HashFolder(const ModelFolder& folder, const BaseDigests::HashFile& hash_file,
                                  RunContext& context) {
  ASSIGN_OR_RETURN(const std::set<std::string> names, FileNames(folder));
  Sha256 hash;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const Digest digest, hash_file(folder.path() + "/" + name, context));
    hash.UpdateField(name);
    hash.UpdateField(digest.Hex());
  }
  return hash.Finish();
}

// What the file system says about a folder's files.
struct Identity {
  Digest digest;
  absl::Time changed;  // the last time that any of them was

  friend bool operator==(const Identity&, const Identity&) = default;
};

absl::StatusOr<Identity> IdentityOf(const ModelFolder& folder) {
  std::error_code error;
  const fs::path root = fs::canonical(folder.path(), error);
  if (error) return absl::ErrnoToStatus(error.value(), StrCat("cannot find ", folder.path()));
  ASSIGN_OR_RETURN(const std::set<std::string> names, FileNames(folder));
  Identity identity{.digest = {}, .changed = absl::InfinitePast()};
  Sha256 hash;
  for (const std::string& name : names) {
    const std::string path = (root / name).string();
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return absl::ErrnoToStatus(errno, StrCat("cannot stat ", path));
    }
    const absl::Time modified = absl::TimeFromTimespec(info.st_mtim);
    const absl::Time attributes = absl::TimeFromTimespec(info.st_ctim);
    hash.UpdateField(path);
    for (const int64_t value :
         {static_cast<int64_t>(info.st_size), static_cast<int64_t>(info.st_ino),
          absl::ToUnixNanos(modified), absl::ToUnixNanos(attributes)}) {
      hash.UpdateField(static_cast<uint64_t>(value));
    }
    identity.changed = std::max({identity.changed, modified, attributes});
  }
  identity.digest = hash.Finish();
  return identity;
}

std::string KeyOf(const Identity& identity) {
  return StrCat("models/digest-", identity.digest.Hex(), ".json");
}

std::string Encode(const Identity& identity, const Digest& digest) {
  nlohmann::ordered_json json = {
      {"format", kFormat}, {"files", identity.digest.Hex()}, {"digest", digest.Hex()}};
  json["sha256"] = Sha256Of(json.dump()).Hex();
  return json.dump() + "\n";
}

// Nothing unless `bytes` are what Encode() makes.
std::optional<Digest> Decode(const Identity& identity, const std::string& bytes) {
  const auto json = nlohmann::json::parse(bytes, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("digest") || !json["digest"].is_string()) return {};
  const auto digest = Digest::FromHex(json["digest"].get<std::string>());
  if (!digest.ok() || Encode(identity, *digest) != bytes) return {};
  return *digest;
}

void LogTrouble(std::string_view message, const std::string& key, const absl::Status& status) {
  Log(LogLevel::kWarning, message, {{"key", key}, {"error", ToStd(status.message())}});
}

std::optional<Digest> Remembered(BlobStore& store, const Identity& identity) {
  const std::string key = KeyOf(identity);
  const auto bytes = store.ReadAll(key, kMaxBytes);
  if (absl::IsNotFound(bytes.status())) return {};
  if (!bytes.ok()) {
    LogTrouble("the remembered digest of a base model cannot be read", key, bytes.status());
    return {};
  }
  std::optional<Digest> digest = Decode(identity, *bytes);
  if (!digest) {
    LogTrouble("the remembered digest of a base model is damaged", key,
               absl::DataLossError("not what was written: the files are hashed again"));
  }
  return digest;
}

void Remember(BlobStore& store, const Identity& identity, const Digest& digest) {
  const std::string key = KeyOf(identity);
  const std::string bytes = Encode(identity, digest);
  // Another server may write the very same object at any time.
  absl::Status put = store.Put(key, bytes).status();
  if (absl::IsAlreadyExists(put)) {
    const auto there = store.ReadAll(key, kMaxBytes);
    if (there.ok() && *there == bytes) return;
    put = store.Delete(key);
    if (put.ok()) put = store.Put(key, bytes).status();
  }
  if (!put.ok() && !absl::IsAlreadyExists(put)) {
    LogTrouble("the digest of a base model cannot be remembered", key, put);
  }
}

}  // namespace

absl::StatusOr<Digest> DigestOfFolder(const ModelFolder& folder, RunContext& context) {
  return HashFolder(folder, Sha256OfFile, context);
}

BaseDigests::BaseDigests(BlobStore& store, const Clock& clock, HashFile hash_file)
    : store_(store), clock_(clock), hash_file_(std::move(hash_file)) {}

absl::StatusOr<Digest> BaseDigests::Of(const ModelFolder& folder, RunContext& context) const {
  const absl::Time now = clock_.Now();
  ASSIGN_OR_RETURN(const Identity identity, IdentityOf(folder));
  const std::optional<Digest> remembered = Remembered(store_, identity);
  if (remembered) return *remembered;
  ASSIGN_OR_RETURN(const Digest digest, HashFolder(folder, hash_file_, context));
  const auto after = IdentityOf(folder);
  if (after.ok() && *after == identity && identity.changed + kSettled < now) {
    Remember(store_, identity, digest);
  }
  return digest;
}

}  // namespace secateur
