#include "server/base/machine_memory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

constexpr char kMeminfo[] = "MemTotal:        2048 kB\nMemFree:          100 kB\n";

class MachineMemoryTest : public testing::Test {
 protected:
  MachineMemoryTest() {
    std::filesystem::create_directories(dir_.Join("proc"));
    std::filesystem::create_directories(dir_.Join("sys/fs/cgroup/memory"));
  }
  int64_t Memory() const { return MachineMemory(dir_.path()); }

  TempDir dir_;
};

TEST_F(MachineMemoryTest, IsTheMachinesWhereNoContainerHasLess) {
  EXPECT_EQ(Memory(), 0);  // nobody tells
  dir_.Write("proc/meminfo", kMeminfo);
  EXPECT_EQ(Memory(), 2048 << 10);
  dir_.Write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(Memory(), 2048 << 10);
  dir_.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Memory(), 2048 << 10);
}

TEST_F(MachineMemoryTest, IsTheContainersWhereItHasLess) {
  dir_.Write("proc/meminfo", kMeminfo);
  dir_.Write("sys/fs/cgroup/memory.max", "1000000\n");
  EXPECT_EQ(Memory(), 1'000'000);
  dir_.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "900000\n");
  EXPECT_EQ(Memory(), 900'000);
}

TEST(MachineMemory, OfThisMachineIsKnown) { EXPECT_GT(MachineMemory(), 64 << 20); }

}  // namespace
}  // namespace secateur
