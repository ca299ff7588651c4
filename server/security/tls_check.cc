#include "server/security/tls_check.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <climits>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free>>;
using Cert = std::unique_ptr<X509, Deleter<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;

std::string Named(const PemFile& file) { return StrCat(file.flag, " ", file.path); }

absl::Status Fault(const PemFile& file, std::string_view what, std::string_view fix) {
  return absl::InvalidArgumentError(StrCat(Named(file), " ", what, ": ", fix));
}

// Why the last call of OpenSSL failed: "ee key too small". Forgets all of its errors.
std::string Reason() {
  const unsigned long error = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(error);
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown error";
}

Bio Open(const PemFile& file) {
  const auto size = static_cast<int>(std::min<size_t>(file.text.size(), INT_MAX));
  return Bio(BIO_new_mem_buf(file.text.data(), size));
}

absl::StatusOr<std::vector<Cert>> ParseCerts(const PemFile& file) {
  const Bio bio = Open(file);
  std::vector<Cert> certs;
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certs.emplace_back(next);
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string reason = Reason();
  if (!at_end) {
    return Fault(
        file, StrCat("holds a damaged certificate, number ", certs.size() + 1, " (", reason, ")"),
        "write the PEM file anew");
  }
  if (certs.empty()) {
    return Fault(file, "holds no certificate", "give a PEM file with -----BEGIN CERTIFICATE-----");
  }
  return certs;
}

// "Nov 25 07:04:40 2026 GMT"
std::string TextOf(const ASN1_TIME* time) {
  const Bio bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), time);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

absl::Status CheckDates(const PemFile& file, const X509& cert, size_t index) {
  const std::string which = index == 0 ? "" : StrCat(" (certificate ", index + 1, ")");
  if (X509_cmp_current_time(X509_get0_notAfter(&cert)) <= 0) {
    return absl::FailedPreconditionError(StrCat(Named(file), which, " expired on ",
                                                TextOf(X509_get0_notAfter(&cert)), ": renew it"));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(&cert)) > 0) {
    return absl::FailedPreconditionError(
        StrCat(Named(file), which, " is valid only from ", TextOf(X509_get0_notBefore(&cert)),
               ": wait until then, or correct this machine's clock"));
  }
  return absl::OkStatus();
}

// gRPC asks nobody for a passphrase, and a server must not wait at a terminal for one.
int RefusePassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::StatusOr<Key> ParseKey(const PemFile& file) {
  const Bio bio = Open(file);
  bool encrypted = false;
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, RefusePassphrase, &encrypted));
  const std::string reason = Reason();
  if (encrypted) {
    return Fault(file, "is encrypted",
                 "give a key without a passphrase, as `openssl pkey -in FILE` writes it");
  }
  if (key == nullptr) {
    return Fault(file, StrCat("holds no private key that can be read (", reason, ")"),
                 "give a PEM file with -----BEGIN PRIVATE KEY-----");
  }
  return key;
}

// What gRPC does with the certificate when it starts to listen.
absl::Status CheckUsable(const PemFile& file, X509* cert) {
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate(context.get(), cert) == 1) return absl::OkStatus();
  return Fault(file, StrCat("cannot be used for TLS (", Reason(), ")"),
               "make a certificate with a stronger key");
}

}  // namespace

absl::Status CheckServerPair(const PemFile& cert, const PemFile& key) {
  ERR_clear_error();
  ASSIGN_OR_RETURN(const std::vector<Cert> certs, ParseCerts(cert));
  ASSIGN_OR_RETURN(const Key parsed, ParseKey(key));
  if (X509_check_private_key(certs.front().get(), parsed.get()) != 1) {
    ERR_clear_error();
    return Fault(key, StrCat("is not the key of the certificate in ", Named(cert)),
                 "give the key that it was made with, and the server's own certificate first");
  }
  RETURN_IF_ERROR(CheckUsable(cert, certs.front().get()));
  for (size_t i = 0; i < certs.size(); ++i) RETURN_IF_ERROR(CheckDates(cert, *certs[i], i));
  return absl::OkStatus();
}

absl::Status CheckAuthorities(const PemFile& ca) {
  ERR_clear_error();
  ASSIGN_OR_RETURN(const std::vector<Cert> certs, ParseCerts(ca));
  absl::Status first;
  for (size_t i = 0; i < certs.size(); ++i) {
    const absl::Status dates = CheckDates(ca, *certs[i], i);
    if (dates.ok()) return absl::OkStatus();
    if (first.ok()) first = dates;
  }
  return first;
}

}  // namespace secateur
