// Bits per byte on text: how well a model predicts it, comparable across tokenizers.
//
// bpb = -sum log2 p(token | those before) / bytes of the text those tokens cover; the first token
// (BOS) is given.
#pragma once

#include <cstdint>

namespace secateur {

struct BitsPerByte {
  double nats = 0;
  int64_t tokens = 0;  // predicted ones
  int64_t bytes = 0;
  int64_t documents = 0;
  double value() const;  // bits per byte; 0 for no bytes
};

}  // namespace secateur
