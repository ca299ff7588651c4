#include "server/base/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

std::string LittleEndian(uint64_t value) {
  std::string out(8, '\0');
  for (char& byte : out) {
    byte = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  return out;
}

}  // namespace

std::string Digest::Hex() const {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string Digest::Id(char letter) const { return std::string(1, letter) + Hex().substr(0, 40); }

absl::StatusOr<Digest> Digest::FromHex(std::string_view hex) {
  const bool valid = hex.size() == 64 && std::all_of(hex.begin(), hex.end(), [](char c) {
                       return absl::ascii_isxdigit(static_cast<unsigned char>(c));
                     });
  if (!valid) {
    return absl::InvalidArgumentError(
        StrCat("a SHA-256 digest is 64 hex digits, not ", Quoted(hex)));
  }
  Digest digest;
  const std::string raw = absl::HexStringToBytes(ToAbsl(hex));
  std::copy(raw.begin(), raw.end(), digest.bytes.begin());
  return digest;
}

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(std::string_view data) {
  EVP_DigestUpdate(state_->context, data.data(), data.size());
}

void Sha256::UpdateField(std::string_view field) {
  Update(LittleEndian(field.size()));
  Update(field);
}

void Sha256::UpdateField(uint64_t value) { Update(LittleEndian(value)); }

Digest Sha256::Finish() {
  Digest digest;
  EVP_DigestFinal_ex(state_->context, digest.bytes.data(), nullptr);
  return digest;
}

Digest Sha256Of(std::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.Finish();
}

absl::StatusOr<Digest> Sha256OfFile(const std::string& path, RunContext& context) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return absl::ErrnoToStatus(errno, StrCat("cannot open ", path));
  const absl::Cleanup close = [file] { std::fclose(file); };
  std::vector<char> buffer(kReadBytes);
  Sha256 hash;
  while (!std::feof(file)) {
    RETURN_IF_ERROR(context.CheckCancelled());
    const size_t n = std::fread(buffer.data(), 1, buffer.size(), file);
    if (std::ferror(file)) return absl::ErrnoToStatus(errno, StrCat("cannot read ", path));
    hash.Update(std::string_view(buffer.data(), n));
  }
  return hash.Finish();
}

}  // namespace secateur
