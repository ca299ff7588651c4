// Experts of a few small files, published or left half way, as tests of the store need them.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/artifact/expert_store.h"
#include "server/artifact/manifest_files.h"
#include "server/base/digest.h"
#include "server/base/strings.h"
#include "tests/support/status_matchers.h"

namespace secateur {

using Files = std::map<std::string, std::string>;

inline std::string IdOf(char digit) { return StrCat("e", std::string(40, digit)); }

// Some small files and one of more than two pieces.
inline Files SomeFiles() {
  std::string large;
  for (int i = 0; large.size() < (size_t{5} << 19); ++i) large += StrCat(i, ",");
  return {{"config.json", "{}\n"}, {"empty.txt", ""}, {"model.safetensors", large}};
}

// A manifest that matches its own digest.
inline std::string ManifestWith(const std::string& files) {
  return SealManifest(StrCat("{\n  \"files\": ", files, ",\n  \"formatVersion\": ",
                             kManifestFormatVersion, ",\n  \"sha256\": \"\"\n}\n"));
}

inline std::string ManifestOf(const Files& files) {
  std::string entries;
  for (const auto& [name, bytes] : files) {
    // Proto3 JSON leaves out fields that are 0.
    const std::string size =
        bytes.empty() ? "" : absl::StrFormat(R"("sizeBytes":"%d",)", bytes.size());
    entries += absl::StrFormat(R"(%s{"name":"%s",%s"sha256":"%s"})", entries.empty() ? "" : ",",
                               name, size, Sha256Of(bytes).Hex());
  }
  return ManifestWith(StrCat("[", entries, "]"));
}

inline std::string PutAttempt(ExpertStore& store, BlobStore& blobs, const std::string& id,
                              const Files& files) {
  const std::string prefix = store.NewPrefix(id);
  for (const auto& [name, bytes] : files) EXPECT_OK(blobs.Put(prefix + name, bytes).status());
  return prefix;
}

inline StoredExpert PublishSome(ExpertStore& store, BlobStore& blobs, const std::string& id,
                                const Files& files = SomeFiles()) {
  const std::string prefix = PutAttempt(store, blobs, id, files);
  const absl::StatusOr<StoredExpert> expert = store.Publish(id, prefix, ManifestOf(files));
  EXPECT_OK(expert);
  return expert.value_or(StoredExpert{});
}

inline std::vector<std::string> Keys(BlobStore& blobs) {
  const absl::StatusOr<std::vector<BlobInfo>> found = blobs.List("", "", 10'000);
  EXPECT_OK(found);
  std::vector<std::string> keys;
  for (const BlobInfo& blob : *found) keys.push_back(blob.key);
  return keys;
}

}  // namespace secateur
