#include "tests/object_storage/faults.h"

#include <chrono>
#include <random>
#include <thread>

namespace secateur {

std::string RandomBytes(int64_t size) {
  std::mt19937_64 random(static_cast<uint64_t>(size));
  std::string bytes(static_cast<size_t>(size), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

void FaultTest::ReleaseWhatHangs() {
  proxy_.Release();
  while (hanging_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

std::vector<std::string> FaultTest::Keys() {
  const auto direct = ArrowStore::Open(server_.Uri(folder_), {}).value();
  std::vector<std::string> keys;
  const absl::StatusOr<std::vector<BlobInfo>> listed = direct->List("", "", 1000);
  EXPECT_OK(listed);
  if (!listed.ok()) return keys;
  for (const BlobInfo& info : *listed) keys.push_back(info.key);
  return keys;
}

}  // namespace secateur
