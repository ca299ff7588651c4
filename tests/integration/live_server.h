// A server in process, with a tiny random model and a store of its own, and its client. It listens
// on free ports of loopback.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "secateur/v1/manifest.pb.h"
#include "server/server.h"
#include "tests/integration/plain_client.h"
#include "tests/support/temp_dir.h"

namespace secateur {

namespace health = grpc::health::v1;

class LiveServer : public PlainClient {
 public:
  // Starts and waits until experts can be made. `change` edits the options first; the client
  // shows `credentials`.
  using Change = std::function<void(ServerOptions&)>;
  explicit LiveServer(
      const Change& change = {},
      std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials());
  ~LiveServer();

  // On the same store; the old server drains first.
  void Restart();
  Server& server() { return *server_; }
  const TempDir& dir() const { return dir_; }
  // The folder in which all of the server's objects lie.
  std::string store() const { return dir_.Join("store/tenants/default"); }
  // What is stored but for operations; temporary files come and go.
  std::map<std::string, std::string> Stored() const;
  // True once no temporary file is left.
  bool HasNoTemporaryFiles() const;
  // Nothing in the store is damaged or left over.
  void ExpectAWholeStore() const;

  // A health::HealthCheckResponse::ServingStatus; -1 when the call fails.
  int Health(const std::string& service = "");
  // The status line and body of GET on the metrics port.
  std::string Http(const std::string& path);

 private:
  void Start();

  TempDir dir_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

// The corpora that LawRequest() needs: language=en twice, domain=law twice, the cell among them.
void UploadLawCorpora(LiveServer& live);

// Every file below `folder` by its path within, except those that vanish meanwhile.
std::map<std::string, std::string> FilesOf(const std::string& folder);

}  // namespace secateur
