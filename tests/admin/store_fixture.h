// A store with one object of every kind at least, made by the code that a server runs.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "secateur/v1/manifest.pb.h"
#include "server/artifact/expert_store.h"
#include "server/artifact/manifest.h"
#include "server/base/strings.h"
#include "server/corpus/corpus_store.h"
#include "server/jobs/leases.h"
#include "server/jobs/operation_store.h"
#include "server/profile/profile_store.h"
#include "server/storage/local_store.h"
#include "tests/profile/random_profile.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {

constexpr char kOwner[] = "0123456789abcdef";

inline v1::Manifest SomeManifest(const std::map<std::string, std::string>& files) {
  v1::Manifest manifest;
  manifest.set_format_version(kManifestFormatVersion);
  manifest.set_model("models/tiny");
  manifest.mutable_request()->set_algorithm_version(3);
  manifest.mutable_request()->set_base_digest(Sha256Of("base").Hex());
  for (const auto& [name, bytes] : files) {
    v1::ExpertFile& file = *manifest.add_files();
    file.set_name(name);
    file.set_size_bytes(std::ssize(bytes));
    file.set_sha256(Sha256Of(bytes).Hex());
  }
  return manifest;
}

class AdminTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(root_, LocalStore::Open(dir_.path()));
    ASSERT_OK_AND_ASSIGN(tenant_, LocalStore::Open(dir_.Join("tenants/default")));
    AddCorpus();
    AddProfile();
    AddExpert();
    AddOperation("o" + std::string(40, '1'), /*done=*/true);
    leases_ = std::make_unique<Leases>(*tenant_, Clock::System(), Leases::Options{});
    ASSERT_OK(leases_->Renew());
    AddModelDigest();
  }

  void AddCorpus() {
    CorpusStore corpora(*tenant_, Clock::System());
    CorpusInfo info;
    info.labels = {{"language", "en"}};
    ASSERT_OK_AND_ASSIGN(auto upload, corpora.StartUpload(info, CorpusFormat::kJsonLines));
    ASSERT_OK(upload->Append("{\"text\":\"one\"}\n{\"text\":\"two\"}\n"));
    ASSERT_OK_AND_ASSIGN(const auto result, upload->Finish());
    corpus_ = result.corpus;
  }
  void AddProfile() {
    Metrics metrics("test");
    ProfileStore profiles(*tenant_, metrics);
    ProfileKey key = AnyKey();
    key.corpus_digest = corpus_.digest;
    ASSERT_OK(profiles.Put(key, ProfileOf(MakeDocuments(3, 2, 5, 1), 2, 5)));
  }
  void AddExpert() {
    const std::map<std::string, std::string> files = {
        {"config.json", "{}\n"}, {"model.safetensors", std::string(9000, 'w')}};
    const v1::Manifest manifest = SomeManifest(files);
    ASSERT_OK_AND_ASSIGN(const std::string text, ManifestText(manifest));
    ExpertStore experts(*tenant_);
    attempt_ = experts.NewPrefix(ExpertIdOf(manifest.request()));
    for (const auto& [name, bytes] : files) ASSERT_OK(tenant_->Put(attempt_ + name, bytes));
    ASSERT_OK(experts.Publish(ExpertIdOf(manifest.request()), attempt_, text,
                              {.ttl = absl::Hours(24 * 365)}));
  }
  void AddOperation(const std::string& id, bool done) {
    OperationStore operations(*tenant_);
    OperationEvent created{.kind = OperationEvent::Kind::kCreated, .time = absl::Now()};
    created.request.method = "CreateExpert";
    ASSERT_OK(operations.Put(id, {{1, kOwner, 1}, created}));
    if (!done) return;
    OperationEvent end{.kind = OperationEvent::Kind::kCancelled, .time = absl::Now()};
    end.error = absl::CancelledError("on request");
    ASSERT_OK(operations.Put(id, {{1, kOwner, 2}, end}));
  }
  void AddModelDigest() {
    const std::string files = Sha256Of("files").Hex();
    nlohmann::ordered_json json = {
        {"format", 1}, {"files", files}, {"digest", Sha256Of("weights").Hex()}};
    json["sha256"] = Sha256Of(json.dump()).Hex();
    ASSERT_OK(root_->Put(StrCat("models/digest-", files, ".json"), json.dump() + "\n"));
  }

  std::vector<std::string> Keys() {
    const auto all = root_->List("", "", 10'000);
    EXPECT_OK(all);
    std::vector<std::string> keys;
    for (const BlobInfo& blob : *all) keys.push_back(blob.key);
    return keys;
  }
  std::string Bytes(const std::string& key) { return root_->ReadAll(key, 1 << 24).value(); }

  // As if the object had been written `hours` ago.
  void Age(const std::string& key, int hours) {
    const absl::Time then = absl::Now() - absl::Hours(hours);
    const timespec times[2] = {absl::ToTimespec(then), absl::ToTimespec(then)};
    ASSERT_EQ(utimensat(AT_FDCWD, dir_.Join(key).c_str(), times, 0), 0) << key;
  }
  void AgeAll(int hours) {
    for (const std::string& key : Keys()) Age(key, hours);
  }

  TempDir dir_;
  std::unique_ptr<LocalStore> root_, tenant_;
  std::unique_ptr<Leases> leases_;
  CorpusInfo corpus_;
  std::string attempt_;  // of the expert, below the tenant's root
};

}  // namespace secateur
