#include "server/format/scratch_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

// A folder for temporary files of the test's own.
class ScratchTensorsTest : public testing::Test {
 protected:
  ScratchTensorsTest() { setenv("TMPDIR", folder_.path().c_str(), 1); }
  ~ScratchTensorsTest() override { unsetenv("TMPDIR"); }
  bool FolderIsEmpty() const { return std::filesystem::is_empty(folder_.path()); }

  const TempDir folder_;
};

TEST_F(ScratchTensorsTest, GivesBackWhatWasAddedAndNeverHasAFileThatACrashWouldLeave) {
  ASSERT_OK_AND_ASSIGN(const auto tensors, ScratchTensors::Create());
  ASSERT_OK(tensors->Add({"a", DType::kBF16, {3, 1}}, "123456"));
  ASSERT_OK(tensors->Add({"empty", DType::kF32, {0, 5}}, ""));
  ASSERT_OK(tensors->Add({"b", DType::kF32, {2}}, "abcdefgh"));
  EXPECT_EQ(tensors->Find("a"), nullptr);
  EXPECT_TRUE(FolderIsEmpty());
  ASSERT_OK(tensors->Seal());
  EXPECT_EQ(tensors->Find("a")->bytes, "123456");
  EXPECT_EQ(tensors->Find("b")->bytes, "abcdefgh");
  EXPECT_EQ(tensors->Find("b")->shape, std::vector<int64_t>{2});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensors->Find("b")->bytes.data()) % 64, 0U);
  EXPECT_EQ(tensors->Find("empty")->bytes, "");
  EXPECT_EQ(tensors->Find("c"), nullptr);
}

TEST_F(ScratchTensorsTest, RefusesWhatDoesNotFit) {
  ASSERT_OK_AND_ASSIGN(const auto tensors, ScratchTensors::Create());
  EXPECT_THAT(tensors->Add({"a", DType::kF32, {2}}, "1234567"),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("8 bytes, not 7")));
  ASSERT_OK(tensors->Add({"a", DType::kU8, {1}}, "1"));
  EXPECT_THAT(tensors->Add({"a", DType::kU8, {1}}, "1"),
              StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(tensors->Seal());
  EXPECT_THAT(tensors->Add({"b", DType::kU8, {1}}, "1"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ScratchTensorsTest, NamesTheFolderThatIsNotThere) {
  setenv("TMPDIR", folder_.Join("gone").c_str(), 1);
  EXPECT_FALSE(ScratchTensors::Create().ok());
}

}  // namespace
}  // namespace secateur
