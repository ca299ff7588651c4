// A Device in libtorch's words.
#pragma once

#include <ATen/core/Tensor.h>

#include "server/model/weights.h"

namespace secateur {

// REQUIRES: `device` comes from Device::Parse or is the default one.
inline at::Device TorchDevice(const Device& device) { return at::Device(device.name); }

// The type that weights and activations have on the device: float32 on CPUs, bfloat16 on CUDA.
inline at::ScalarType ComputeType(const Device& device) {
  return TorchDevice(device).is_cpu() ? at::kFloat : at::kBFloat16;
}

}  // namespace secateur
