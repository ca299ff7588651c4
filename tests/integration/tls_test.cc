// The real server with certificates: who gets in, and what it says about files that will not do.
#include "server/base/strings.h"
#include "tests/integration/live_server.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Credentials = std::shared_ptr<grpc::ChannelCredentials>;

Credentials Trusting(const Certificate& authority, const Certificate* own = nullptr) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = authority.pem;
  if (own != nullptr) {
    options.pem_cert_chain = own->pem;
    options.pem_private_key = own->key_pem;
  }
  return grpc::SslCredentials(options);
}

grpc::Status ListModels(LiveServer& live, const Credentials& credentials) {
  const auto stub = v1::Secateur::NewStub(
      grpc::CreateChannel(StrCat("127.0.0.1:", live.server().port()), credentials));
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  return stub->ListModels(&context, {}, &response);
}

class Tls : public testing::Test {
 protected:
  LiveServer::Change WithTls(bool mutual) {
    return [this, mutual](ServerOptions& options) {
      options.listen = "0.0.0.0:0";
      options.tls_cert = dir_.Write("cert.pem", server_.pem);
      options.tls_key = dir_.Write("key.pem", server_.key_pem);
      if (mutual) options.tls_client_ca = dir_.Write("client-ca.pem", client_authority_.pem);
    };
  }

  const TempDir dir_;
  const Certificate authority_ = MakeCertificate("authority");
  const Certificate server_ = MakeCertificate("server", {.issuer = &authority_});
  const Certificate client_authority_ = MakeCertificate("client authority");
  const Certificate client_ = MakeCertificate("client", {.issuer = &client_authority_});
};

TEST_F(Tls, ServesClientsThatTrustItsAuthority) {
  LiveServer live(WithTls(/*mutual=*/false), Trusting(authority_));
  EXPECT_RPC_OK(ListModels(live, Trusting(authority_)));
  EXPECT_EQ(ListModels(live, Trusting(client_authority_)).error_code(), grpc::UNAVAILABLE);
}

TEST_F(Tls, RefusesPlainText) {
  LiveServer live(WithTls(/*mutual=*/false), Trusting(authority_));
  EXPECT_EQ(ListModels(live, grpc::InsecureChannelCredentials()).error_code(), grpc::UNAVAILABLE);
}

TEST_F(Tls, AsksForACertificateOfTheClientAuthority) {
  LiveServer live(WithTls(/*mutual=*/true), Trusting(authority_, &client_));
  EXPECT_RPC_OK(ListModels(live, Trusting(authority_, &client_)));
  EXPECT_EQ(ListModels(live, Trusting(authority_)).error_code(), grpc::UNAVAILABLE);
  const Certificate stranger = MakeCertificate("stranger", {.issuer = &authority_});
  EXPECT_EQ(ListModels(live, Trusting(authority_, &stranger)).error_code(), grpc::UNAVAILABLE);
}

TEST_F(Tls, WorksWithAChainFile) {
  LiveServer live(
      [this](ServerOptions& options) {
        options.tls_cert = dir_.Write("chain.pem", server_.pem + authority_.pem);
        options.tls_key = dir_.Write("key.pem", server_.key_pem);
      },
      Trusting(authority_));
  EXPECT_RPC_OK(ListModels(live, Trusting(authority_)));
}

class TlsStart : public Tls {
 protected:
  TlsStart() {
    const std::string model = dir_.Join("model");
    std::filesystem::create_directory(model);
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), model));
    options_.models = {{"tiny", model}};
    options_.store = "file:" + dir_.Join("store");
    options_.listen = options_.metrics = "127.0.0.1:0";
    options_.log_level = LogLevel::kError;
  }
  // What a start with these two files says.
  absl::Status Start(const std::string& cert, const std::string& key) {
    options_.tls_cert = dir_.Write("cert.pem", cert);
    options_.tls_key = dir_.Write("key.pem", key);
    return Server::Start(options_).status();
  }
  std::string Cert() const { return "--tls-cert " + dir_.Join("cert.pem"); }
  std::string Key() const { return "--tls-key " + dir_.Join("key.pem"); }

  ServerOptions options_;
};

TEST_F(TlsStart, SaysThatAFileIsMissing) {
  options_.tls_cert = dir_.Join("none.pem");
  options_.tls_key = dir_.Write("key.pem", server_.key_pem);
  EXPECT_THAT(Server::Start(options_),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("--tls-cert: cannot open " + dir_.Join("none.pem")),
                             HasSubstr("name a readable PEM file"))));
  options_.tls_cert = dir_.Write("cert.pem", server_.pem);
  options_.tls_key = dir_.path();
  EXPECT_THAT(Server::Start(options_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--tls-key: " + dir_.path() + " is not a regular file")));
}

TEST_F(TlsStart, SaysThatAFileHoldsSomethingElse) {
  struct Case {
    std::string name, cert, key, says;
  };
  const std::string damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const std::vector<Case> cases = {
      {"text for a key", server_.pem, "no key", Key() + " holds no private key"},
      {"a certificate for a key", server_.pem, server_.pem, Key() + " holds no private key"},
      {"a key that is cut", server_.pem, server_.key_pem.substr(0, server_.key_pem.size() / 2),
       Key() + " holds no private key"},
      {"a key under a passphrase", server_.pem, EncryptedKey(server_, "rose"),
       Key() + " is encrypted: give a key without a passphrase"},
      {"nothing for a certificate", "", server_.key_pem, Cert() + " holds no certificate"},
      {"a key for a certificate", server_.key_pem, server_.key_pem,
       Cert() + " holds no certificate: give a PEM file"},
      {"a damaged certificate", damaged, server_.key_pem,
       Cert() + " holds a damaged certificate, number 1"},
      {"a chain with a damaged end", server_.pem + damaged, server_.key_pem,
       Cert() + " holds a damaged certificate, number 2"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    EXPECT_THAT(Start(test.cert, test.key), StatusIs(absl::StatusCode::kInvalidArgument,
                                                     AllOf(HasSubstr(test.says), HasSubstr(": "),
                                                           Not(HasSubstr("port taken")))));
  }
}

TEST_F(TlsStart, SaysThatTheKeyIsOfAnotherCertificate) {
  EXPECT_THAT(Start(server_.pem, client_.key_pem),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(Key() + " is not the key of the certificate in " + Cert())));
  // The authority's certificate first is the usual way to get there.
  EXPECT_THAT(Start(authority_.pem + server_.pem, server_.key_pem),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the server's own certificate first")));
}

TEST_F(TlsStart, SaysThatACertificateIsNotValidNow) {
  using std::chrono::hours;
  const Certificate expired = MakeCertificate(
      "server", {.issuer = &authority_, .valid_from = hours(-2), .valid_until = hours(-1)});
  EXPECT_THAT(Start(expired.pem, expired.key_pem),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(Cert() + " expired on "), HasSubstr("renew it"))));
  const Certificate early = MakeCertificate(
      "server", {.issuer = &authority_, .valid_from = hours(1), .valid_until = hours(2)});
  EXPECT_THAT(Start(early.pem, early.key_pem),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(Cert() + " is valid only from "), HasSubstr("clock"))));
  EXPECT_THAT(Start(server_.pem + expired.pem, server_.key_pem),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr(Cert() + " (certificate 2) expired on ")));
}

TEST_F(TlsStart, SaysThatTheKeyIsTooWeak) {
  const Certificate weak = MakeCertificate("server", {.weak = true});
  EXPECT_THAT(Start(weak.pem, weak.key_pem),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(Cert() + " cannot be used for TLS"),
                             HasSubstr("make a certificate with a stronger key"))));
}

TEST_F(TlsStart, SaysThatTheClientAuthorityWillNotDo) {
  using std::chrono::hours;
  const Certificate old =
      MakeCertificate("old", {.valid_from = hours(-2), .valid_until = hours(-1)});
  const auto with_authority = [this](const std::string& pem) {
    options_.tls_client_ca = dir_.Write("ca.pem", pem);
    return Start(server_.pem, server_.key_pem);
  };
  const std::string flag = "--tls-client-ca " + dir_.Join("ca.pem");
  EXPECT_THAT(
      with_authority("no certificate"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(flag + " holds no certificate")));
  EXPECT_THAT(with_authority(old.pem),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(flag + " expired on ")));
  // A bundle keeps old ones beside new ones.
  EXPECT_OK(with_authority(old.pem + client_authority_.pem));
}

TEST_F(TlsStart, RefusesToServePlainTextToOtherMachines) {
  for (const char* address : {"0.0.0.0:0", "[::]:0"}) {
    options_.listen = address;
    EXPECT_THAT(Server::Start(options_),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(StrCat("--listen ", address, " is reachable")),
                               HasSubstr("--tls-cert and --tls-key"), HasSubstr("--insecure"))));
  }
  options_.listen = "0.0.0.0:0";
  options_.insecure = true;
  EXPECT_OK(Server::Start(options_));
}

}  // namespace
}  // namespace secateur
