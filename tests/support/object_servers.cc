#include "tests/support/object_servers.h"

#include <arrow/filesystem/azurefs.h>
#include <arrow/filesystem/gcsfs.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace secateur {
namespace {

namespace fs = std::filesystem;

constexpr char kBucket[] = "bucket";
// The account that the emulator knows; its key is in the emulator's documentation.
constexpr char kAzureAccount[] = "devstoreaccount1";
constexpr char kAzureKey[] =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

void SetEnvironment(const char* name, const char* value) { setenv(name, value, /*overwrite=*/1); }

void Require(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error("the object server: " + status.ToString());
}

void RequirePort(int port, const std::string& program) {
  if (!WaitForPort(port)) throw std::runtime_error(program + " does not answer");
}

std::string Host(int port) { return "127.0.0.1:" + std::to_string(port); }

}  // namespace

S3Server::S3Server() {
  SetEnvironment("AWS_ACCESS_KEY_ID", "testkey");
  SetEnvironment("AWS_SECRET_ACCESS_KEY", "testsecret");
  SetEnvironment("AWS_EC2_METADATA_DISABLED", "true");
  fs::create_directories(dir_.Join(std::string("data/") + kBucket));
  process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{SECATEUR_VERSITYGW, "--quiet", "--port", Host(port_), "--region",
                               "us-east-1", "posix", dir_.Join("data")},
      std::map<std::string, std::string>{{"ROOT_ACCESS_KEY", "testkey"},
                                         {"ROOT_SECRET_KEY", "testsecret"}},
      dir_.Join("log"));
  RequirePort(port_, "versitygw");
}

std::string S3Server::Uri(const std::string& folder, int port) const {
  return std::string("s3://") + kBucket + "/" + folder +
         "?scheme=http&region=us-east-1&endpoint_override=" + Host(port);
}

std::vector<std::string> S3Server::PendingUploads() const {
  std::vector<std::string> uploads;
  const fs::path folder = dir_.Join(std::string("data/") + kBucket + "/.sgwtmp/multipart");
  if (!fs::exists(folder)) return uploads;
  for (const auto& object : fs::directory_iterator(folder)) {
    for (const auto& upload : fs::directory_iterator(object))
      uploads.push_back(upload.path().filename());
  }
  return uploads;
}

void S3Server::RemoveBucket() const { fs::remove_all(dir_.Join(std::string("data/") + kBucket)); }

GcsServer::GcsServer() {
  process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{SECATEUR_FAKE_GCS_SERVER, "-scheme", "http", "-host", "127.0.0.1",
                               "-port", std::to_string(port_), "-backend", "memory", "-public-host",
                               Host(port_)},
      std::map<std::string, std::string>{}, dir_.Join("log"));
  RequirePort(port_, "fake-gcs-server");
  arrow::fs::GcsOptions options = arrow::fs::GcsOptions::Anonymous();
  options.endpoint_override = Host(port_);
  options.scheme = "http";
  options.project_id = "test";
  Require(arrow::fs::GcsFileSystem::Make(options).ValueOrDie()->CreateDir(kBucket,
                                                                          /*recursive=*/false));
}

std::string GcsServer::Uri(const std::string& folder, int port) const {
  return std::string("gs://anonymous@") + kBucket + "/" + folder +
         "?scheme=http&endpoint_override=" + Host(port);
}

AzureServer::AzureServer() {
  SetEnvironment("AZURE_STORAGE_KEY", kAzureKey);
  process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{SECATEUR_AZURITE, "--silent", "--blobHost", "127.0.0.1",
                               "--blobPort", std::to_string(port_), "--inMemoryPersistence",
                               "--skipApiVersionCheck", "--disableTelemetry"},
      std::map<std::string, std::string>{}, dir_.Join("log"));
  RequirePort(port_, "azurite");
  arrow::fs::AzureOptions options;
  options.account_name = kAzureAccount;
  options.blob_storage_authority = options.dfs_storage_authority = Host(port_);
  options.blob_storage_scheme = options.dfs_storage_scheme = "http";
  Require(options.ConfigureAccountKeyCredential(kAzureKey));
  Require(arrow::fs::AzureFileSystem::Make(options).ValueOrDie()->CreateDir(kBucket,
                                                                            /*recursive=*/false));
}

std::string AzureServer::Uri(const std::string& folder, int port) const {
  return std::string("abfs://") + kAzureAccount + "@" + Host(port) + "/" + kBucket + "/" + folder +
         "?enable_tls=false";
}

}  // namespace secateur
