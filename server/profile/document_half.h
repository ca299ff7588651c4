// Which half of a corpus's documents one counts in, for statistics of one half beside all of them.
#pragma once

#include <cstdint>
#include <span>

namespace secateur {

// A bit of the SHA-256 of the document's tokens, 4 bytes each, little-endian: equal documents fall
// into the same half, and neither order nor blocks matter. Halves are equal only about. Pure.
bool IsInHalf(std::span<const int32_t> tokens);

}  // namespace secateur
