// SHA-256: how content gets its name. A Digest is 32 bytes; text form is 64 lower-case hex digits.
// Resource ids are a letter and the first 40 hex digits: c = corpus, p = profile,
// e = expert.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"

namespace secateur {

struct Digest {
  std::array<uint8_t, 32> bytes{};

  std::string Hex() const;
  // "c" + the first 40 hex digits.
  std::string Id(char letter) const;
  // INVALID_ARGUMENT unless `hex` is 64 hex digits.
  static absl::StatusOr<Digest> FromHex(std::string_view hex);

  friend bool operator==(const Digest&, const Digest&) = default;
  friend auto operator<=>(const Digest&, const Digest&) = default;
};

// A running digest. One thread at a time; movable.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(std::string_view data);
  // Length first, so that ("ab","c") and ("a","bc") differ: for hashing several fields.
  void UpdateField(std::string_view field);
  void UpdateField(uint64_t value);
  // May be called once; the object is spent afterwards.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest Sha256Of(std::string_view data);
// Reads through a fixed buffer; checks `context` for cancellation between reads.
absl::StatusOr<Digest> Sha256OfFile(const std::string& path, RunContext& context);

}  // namespace secateur
