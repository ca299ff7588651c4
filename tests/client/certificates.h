// Certificates for tests, made on the spot: a self-signed one for "localhost" is its own authority.
#pragma once

#include <string>

namespace secateur {

struct Certificate {
  std::string pem, key_pem;
};

// A new key and a certificate of it for localhost, valid for an hour.
Certificate MakeCertificate(const std::string& common_name);

}  // namespace secateur
