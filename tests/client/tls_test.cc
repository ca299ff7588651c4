#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

std::shared_ptr<grpc::ServerCredentials> ServerTls(const Certificate& server,
                                                   const Certificate& client) {
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = client.pem;
  options.pem_key_cert_pairs.push_back({server.key_pem, server.pem});
  return grpc::SslServerCredentials(options);
}

class Tls : public testing::Test {
 protected:
  Tls() {
    server_.secateur.models.resize(1);
    options_.address = server_.address();
    options_.ca_file = dir_.Write("ca.pem", server_certificate_.pem);
    options_.cert_file = dir_.Write("cert.pem", client_certificate_.pem);
    options_.key_file = dir_.Write("key.pem", client_certificate_.key_pem);
    options_.token = "s3cret";
  }
  absl::Status Ask() { return SecateurClient::Connect(options_)->ListModels().status(); }

  TempDir dir_;
  const Certificate server_certificate_ = MakeCertificate("server");
  const Certificate client_certificate_ = MakeCertificate("client");
  FakeServer server_{ServerTls(server_certificate_, client_certificate_)};
  ClientOptions options_;
};

TEST_F(Tls, ConnectsWhenBothSidesKnowEachOther) { EXPECT_OK(Ask()); }

TEST_F(Tls, RefusesAServerOfAnotherAuthority) {
  options_.ca_file = dir_.Write("other.pem", MakeCertificate("other").pem);
  EXPECT_THAT(Ask(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(Tls, IsRefusedWithoutItsCertificate) {
  options_.cert_file = options_.key_file = "";
  EXPECT_THAT(Ask(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(Tls, DoesNotTalkPlainTextToAServerWithTls) {
  options_.ca_file = options_.cert_file = options_.key_file = "";
  EXPECT_THAT(Ask(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace secateur
