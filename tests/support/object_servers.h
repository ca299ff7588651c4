// Object stores on the loopback, for tests: a real S3 server, and the best emulators there are of
// Google's and Azure's. scripts/setup installs them. Each is a process that ends with its object,
// and makes one bucket, "bucket". They put the credentials that clients need into the environment.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace secateur {

class ObjectServer {
 public:
  virtual ~ObjectServer() = default;
  // The store's URI for a folder of the bucket; with `port` by way of a proxy there.
  std::string Uri(const std::string& folder) const { return Uri(folder, port_); }
  virtual std::string Uri(const std::string& folder, int port) const = 0;
  int port() const { return port_; }
  ChildProcess& process() { return *process_; }

 protected:
  const TempDir dir_;
  const int port_ = FreePort();
  std::unique_ptr<ChildProcess> process_;
};

// versitygw, over a folder.
class S3Server final : public ObjectServer {
 public:
  using ObjectServer::Uri;
  S3Server();
  std::string Uri(const std::string& folder, int port) const override;
  // Uploads that were begun and neither completed nor aborted, as ListMultipartUploads has them.
  std::vector<std::string> PendingUploads() const;
  void RemoveBucket() const;
};

// fake-gcs-server.
class GcsServer final : public ObjectServer {
 public:
  using ObjectServer::Uri;
  GcsServer();
  std::string Uri(const std::string& folder, int port) const override;
};

// Azurite.
class AzureServer final : public ObjectServer {
 public:
  using ObjectServer::Uri;
  AzureServer();
  std::string Uri(const std::string& folder, int port) const override;
};

}  // namespace secateur
