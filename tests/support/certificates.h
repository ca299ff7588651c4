// Certificates for tests, made on the spot, for the server names "localhost" and 127.0.0.1.
#pragma once

#include <chrono>
#include <string>

namespace secateur {

struct Certificate {
  std::string pem, key_pem;
};

struct CertificateOptions {
  const Certificate* issuer = nullptr;  // null: signed with its own key, and its own authority
  // Seconds from now.
  std::chrono::seconds valid_from = std::chrono::minutes(-10);
  std::chrono::seconds valid_until = std::chrono::hours(1);
  bool weak = false;  // a key of 512 bits that no TLS takes
};

// A new key and a certificate of it.
Certificate MakeCertificate(const std::string& common_name, const CertificateOptions& options = {});

// The key under a passphrase, as a PEM file holds it.
std::string EncryptedKey(const Certificate& certificate, const std::string& passphrase);

}  // namespace secateur
