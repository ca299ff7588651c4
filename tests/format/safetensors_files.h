// Makes safetensors files for tests: well-formed ones through our writer, hostile ones by hand.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/format/safetensors_writer.h"

namespace secateur {

struct TestTensor {
  TensorSpec spec;
  std::string bytes;
};

// Eight bytes of length, the header as it is, the data as it is.
inline std::string FileOf(std::string_view header, std::string_view data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return out.append(header).append(data);
}

// What the writer makes of `tensors`; records a test failure if it refuses.
inline std::string Written(const std::vector<TestTensor>& tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
  std::string out;
  SafetensorsWriter writer([&out](std::string_view data) {
    out.append(data);
    return absl::OkStatus();
  });
  std::vector<TensorSpec> specs;
  for (const TestTensor& tensor : tensors) specs.push_back(tensor.spec);
  EXPECT_TRUE(writer.Begin(specs, metadata).ok());
  for (const TestTensor& tensor : tensors) EXPECT_TRUE(writer.Write(tensor.bytes).ok());
  EXPECT_TRUE(writer.Finish().ok());
  return out;
}

// A file with what files have: metadata, several element types, a scalar and an empty tensor.
inline std::string SmallFile() {
  return Written({{{"layer.weight", DType::kF32, {2, 3}}, std::string(24, '\1')},
                  {{"step", DType::kI64, {}}, std::string(8, '\2')},
                  {{"empty", DType::kBF16, {0, 7}}, ""},
                  {{"mask", DType::kU8, {3}}, "abc"}},
                 {{"format", "pt"}});
}

}  // namespace secateur
