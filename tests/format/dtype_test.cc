#include "server/format/dtype.h"

#include <limits>

#include "server/format/tensor_writer.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr DType kAll[] = {DType::kBool, DType::kU8,   DType::kI8,  DType::kU16, DType::kI16,
                          DType::kF16,  DType::kBF16, DType::kU32, DType::kI32, DType::kF32,
                          DType::kU64,  DType::kI64,  DType::kF64};

TEST(DType, EveryNameParsesToItsType) {
  for (const DType dtype : kAll) EXPECT_THAT(ParseDType(DTypeName(dtype)), IsOkAndHolds(dtype));
}

TEST(DType, NamesEndWithTheirBits) {
  for (const DType dtype : kAll) {
    if (dtype == DType::kBool) continue;
    const std::string bits = std::to_string(8 * ItemSize(dtype));
    EXPECT_TRUE(DTypeName(dtype).ends_with(bits)) << DTypeName(dtype);
  }
  EXPECT_EQ(DTypeName(DType::kBool), "BOOL");
  EXPECT_EQ(ItemSize(DType::kBool), 1);
}

TEST(DType, UnknownNamesAreUnimplementedAndListWhatIsKnown) {
  EXPECT_THAT(ParseDType("F8_E4M3"), StatusIs(absl::StatusCode::kUnimplemented,
                                              AllOf(HasSubstr("F8_E4M3"), HasSubstr("BF16"))));
  for (const std::string_view name : {"", "f32", "F32 ", "F", "\xff"}) {
    EXPECT_THAT(ParseDType(name), StatusIs(absl::StatusCode::kUnimplemented)) << name;
  }
}

TEST(ByteSize, IsTheProductOfShapeAndItem) {
  EXPECT_EQ(ByteSize({"t", DType::kBF16, {3, 5}}), 30);
  EXPECT_EQ(ByteSize({"t", DType::kF64, {}}), 8);
  EXPECT_EQ(ByteSize({"t", DType::kF64, {4, 0, 9}}), 0);
}

TEST(ByteSize, IsNegativeForShapesThatCannotBe) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(ByteSize({"t", DType::kU8, {2, -1}}), -1);
  EXPECT_EQ(ByteSize({"t", DType::kU8, {-1, 0}}), -1);
  EXPECT_EQ(ByteSize({"t", DType::kU8, {kHuge}}), kHuge);
  EXPECT_EQ(ByteSize({"t", DType::kU16, {kHuge}}), -1);
  EXPECT_EQ(ByteSize({"t", DType::kU8, {int64_t{1} << 32, int64_t{1} << 32, 0}}), -1);
}

}  // namespace
}  // namespace secateur
