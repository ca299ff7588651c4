// The passes over activations between the matrix products, fused so that each reads and writes
// memory once. For float32 on the CPU; layers.cc has the same steps in ATen's operators for other
// devices.
//
// Rows are contiguous, and behind one another at a distance (stride) of so many floats. Work is
// split over libtorch's threads by rows, and no row depends on how many there are: a row's result
// is the same bits in every batch.
#pragma once

#include <cstdint>

#include "server/model/config.h"

namespace secateur::cpu {

// rms norm: y = x / sqrt(mean(x^2) + eps) * (offset + weight).
struct Norm {
  const float* weight = nullptr;  // null: no norm
  float offset = 0.0F;
  float eps = 0.0F;
};

// y[i] = norm(x[i]). y may be x.
void NormRows(const float* x, const Norm& norm, int64_t rows, int64_t width, float* y);

// sum[i] = x[i] + post(delta[i]), and, if y is not null, y[i] = pre(sum[i]). A null post.weight
// adds delta as it is. sum may be x; y may be delta.
void AddNormRows(const float* x, const float* delta, const Norm& post, const Norm& pre,
                 int64_t rows, int64_t width, float* sum, float* y);

// gate[i] = activation(gate[i]) * up[i] * kept, in place; `kept` may be null: all ones.
void GateRows(float* gate, const float* up, const float* kept, Activation activation, int64_t rows,
              int64_t width);

// Norms (where given) and rotates heads in place, Hugging Face's rotate-half: with x = (x1, x2) the
// halves of a head, (x1 cos - x2 sin, x2 cos + x1 sin).
//   x          [tokens, stride], heads behind one another at its front
//   positions  [tokens], rows of the tables
//   cos, sin   [positions, head_dim / 2]
struct Rotary {
  const int64_t* positions = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
};
void RotateRows(float* x, int64_t stride, int64_t heads, int64_t head_dim, const Norm& norm,
                const Rotary& rotary, int64_t tokens);

// result[i] = log(sum(exp(x[i]))), without overflow.
void LogSumExpRows(const float* x, int64_t rows, int64_t width, double* result);

}  // namespace secateur::cpu
