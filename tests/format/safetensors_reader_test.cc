#include "server/format/safetensors_reader.h"

#include "tests/format/safetensors_files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SafetensorsReader, ReadsTensorsInAnyOrderOfTheHeader) {
  // Hugging Face sorts the data by element type, and the header need not follow.
  const std::string file = FileOf(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},)"
                                  R"("empty":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},)"
                                  R"("a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}  )",
                                  "\1\2\3\4xy");
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::FromBytes("made", file));
  EXPECT_EQ(reader.Find("a")->bytes, "\1\2\3\4");
  EXPECT_THAT(reader.Find("a")->shape, IsEmpty());
  EXPECT_EQ(reader.Find("b")->bytes, "xy");
  EXPECT_EQ(reader.Find("b")->dtype, DType::kU8);
  EXPECT_EQ(reader.Find("empty")->bytes, "");
  EXPECT_THAT(reader.metadata(), IsEmpty());
}

TEST(SafetensorsReader, ViewsOutliveACopyAndAMoveOfTheReader) {
  ASSERT_OK_AND_ASSIGN(SafetensorsReader reader, SafetensorsReader::FromBytes("m", SmallFile()));
  const SafetensorsReader copy = reader;
  reader = *SafetensorsReader::FromBytes("other", FileOf("{}", ""));
  EXPECT_EQ(copy.Find("mask")->bytes, "abc");
}

TEST(SafetensorsReader, FilesReadAsTheirBytesDo) {
  const TempDir folder;
  const std::string path = folder.Write("small.safetensors", SmallFile());
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::Open(path));
  std::filesystem::remove(path);
  EXPECT_EQ(reader.Find("mask")->bytes, "abc");
  EXPECT_EQ(reader.name(), path);
}

TEST(SafetensorsReader, WhatIsMissingIsNamed) {
  const TempDir folder;
  EXPECT_THAT(SafetensorsReader::Open(folder.Join("absent")),
              StatusIs(StatusCode::kNotFound, HasSubstr(folder.Join("absent"))));
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::FromBytes("m.st", SmallFile()));
  EXPECT_THAT(reader.Find("lm_head"),
              StatusIs(StatusCode::kNotFound, AllOf(HasSubstr("m.st"), HasSubstr("\"lm_head\""))));
}

struct Refusal {
  std::string what;
  std::string file;
  std::string message;
};

std::string NameOf(const testing::TestParamInfo<Refusal>& refusal) { return refusal.param.what; }

void PrintTo(const Refusal& refusal, std::ostream* os) { *os << refusal.what; }

class RefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, IsRefusedWithItsReason) {
  EXPECT_THAT(SafetensorsReader::FromBytes("the-file", GetParam().file),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(testing::StartsWith("the-file: "), HasSubstr(GetParam().message))));
}

// A file of four bytes of data whose only tensor is described by `entry`.
std::string One(const std::string& entry) { return FileOf("{\"t\":" + entry + "}", "1234"); }

INSTANTIATE_TEST_SUITE_P(
    Frame, RefusalTest,
    testing::Values(
        Refusal{"Empty", "", "0 bytes"}, Refusal{"SevenBytes", "1234567", "7 bytes"},
        Refusal{"NoHeader", FileOf("", ""), "does not begin with"},
        Refusal{"HugeLength", std::string(8, '\xff') + "{}", "18446744073709551615 bytes; at most"},
        Refusal{"LengthBeyondTheFile", FileOf("{}", "").substr(0, 9), "claims 2 bytes, but only 1"},
        Refusal{"SpaceFirst", FileOf(" {}", ""), "does not begin with"},
        Refusal{"Array", FileOf("[]", ""), "does not begin with"},
        Refusal{"NotJson", FileOf("{nope}", ""), "not valid JSON at byte 2"},
        Refusal{"TwoValues", FileOf("{}{}", ""), "not valid JSON"},
        Refusal{"NotUtf8", FileOf("{\"\xff\":1}", ""), "not valid JSON"},
        Refusal{"DataOfNoTensor", FileOf("{}", "x"), "end at byte 0 of the data, which has 1"},
        Refusal{"DeepArrays", FileOf("{\"t\":{\"shape\":" + std::string(1000000, '['), ""),
                "nested deeper"},
        Refusal{"DeepObjects", FileOf("{\"t\":{\"x\":{\"x\":{", ""), "\"x\""}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Fields, RefusalTest,
    testing::Values(
        Refusal{"EntryIsANumber", One("3"), "\"t\": the number 3, not a JSON object"},
        Refusal{"EntryIsAnArray", One("[]"), "\"t\": an array, not a JSON object"},
        Refusal{"NoDtype", One(R"({"shape":[4],"data_offsets":[0,4]})"),
                "\"t\": \"dtype\" is missing"},
        Refusal{"NoShape", One(R"({"dtype":"U8","data_offsets":[0,4]})"), "\"shape\" is missing"},
        Refusal{"NoOffsets", One(R"({"dtype":"U8","shape":[4]})"), "\"data_offsets\" is missing"},
        Refusal{"UnknownField", One(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1})"),
                "unexpected \"x\""},
        Refusal{"DtypeIsANumber", One(R"({"dtype":8,"shape":[4],"data_offsets":[0,4]})"),
                "unexpected \"dtype\": the number 8"},
        Refusal{"ShapeIsANumber", One(R"({"dtype":"U8","shape":4,"data_offsets":[0,4]})"),
                "\"shape\""},
        Refusal{"ShapeIsAnObject", One(R"({"dtype":"U8","shape":{},"data_offsets":[0,4]})"),
                "\"shape\""},
        Refusal{"NegativeDimension", One(R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})"),
                "\"shape\" holds the number -4"},
        Refusal{"FloatDimension", One(R"({"dtype":"U8","shape":[4.0],"data_offsets":[0,4]})"),
                "\"shape\" holds the number \"4.0\""},
        Refusal{"FloatOffset", One(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4e0]})"),
                "\"data_offsets\" holds the number \"4e0\""},
        Refusal{"StringOffset", One(R"({"dtype":"U8","shape":[4],"data_offsets":["0",4]})"),
                "the string \"0\""},
        Refusal{"BoolDimension", One(R"({"dtype":"U8","shape":[true],"data_offsets":[0,4]})"),
                "true"},
        Refusal{"NullDimension", One(R"({"dtype":"U8","shape":[null],"data_offsets":[0,4]})"),
                "null"},
        Refusal{"HugeDimension",
                One(R"({"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4]})"),
                "9223372036854775808"},
        Refusal{"DimensionBeyond64Bits",
                One(R"({"dtype":"U8","shape":[99999999999999999999999],"data_offsets":[0,4]})"),
                "99999999999999999999999"},
        Refusal{"ShapeOverflows",
                One(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]})"),
                "overflows"},
        Refusal{"ShapeOverflowsToTheRightSize",
                One(R"({"dtype":"U8","shape":[4611686018427387905,4],"data_offsets":[0,4]})"),
                "overflows"},
        Refusal{"OneOffset", One(R"({"dtype":"U8","shape":[4],"data_offsets":[0]})"), "1 numbers"},
        Refusal{"ThreeOffsets", One(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,4]})"),
                "more than 2"},
        Refusal{"ManyDimensions",
                One(R"({"dtype":"U8","shape":[1)" +
                    [] {
                      std::string ones;
                      for (int i = 0; i < 64; ++i) ones += ",1";
                      return ones;
                    }() +
                    R"(],"data_offsets":[0,4]})"),
                "more than 64"},
        Refusal{"MetadataIsAList", FileOf(R"({"__metadata__":[]})", ""),
                "\"__metadata__\": an array"},
        Refusal{"MetadataHoldsANumber", FileOf(R"({"__metadata__":{"k":1}})", ""),
                "\"__metadata__\": \"k\" is the number 1, not a string"},
        Refusal{"MetadataHoldsAnObject", FileOf(R"({"__metadata__":{"k":{}}})", ""),
                "\"k\" is not a string"}),
    NameOf);

constexpr char kEntry[] = R"({"dtype":"U8","shape":[2],"data_offsets":[)";

std::string Two(const std::string& first, const std::string& second) {
  return FileOf(std::string("{\"a\":") + kEntry + first + "]},\"b\":" + kEntry + second + "]}}",
                "1234");
}

INSTANTIATE_TEST_SUITE_P(
    Layout, RefusalTest,
    testing::Values(
        Refusal{"DuplicateTensor",
                FileOf(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                       R"("t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                       "1234"),
                "the name \"t\" appears twice"},
        Refusal{"DuplicateByEscape",
                FileOf(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                       R"("\u0074":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                       "1234"),
                "the name \"t\" appears twice"},
        Refusal{"DuplicateField",
                One(R"({"dtype":"U8","shape":[2],"shape":[4],"data_offsets":[0,4]})"),
                "\"shape\" appears twice"},
        Refusal{"DuplicateMetadata", FileOf(R"({"__metadata__":{"k":"a","k":"b"}})", ""),
                "\"k\" appears twice"},
        Refusal{"SizeTooSmall", One(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"),
                "\"t\": F32 of shape [2] has 8 bytes, but data_offsets [0, 4] do not"},
        Refusal{"Backwards", One(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})"), "[4, 0]"},
        Refusal{"PastTheEnd", One(R"({"dtype":"U8","shape":[5],"data_offsets":[0,5]})"),
                "past the end"},
        Refusal{"TrailingBytes", One(R"({"dtype":"U8","shape":[3],"data_offsets":[0,3]})"),
                "end at byte 3 of the data, which has 4"},
        Refusal{"HoleAtTheStart", One(R"({"dtype":"U8","shape":[3],"data_offsets":[1,4]})"),
                "\"t\": data_offsets [1, 4] leaves a hole"},
        Refusal{"Hole", Two("0,2", "3,5"), "\"b\": data_offsets [3, 5]"},
        Refusal{"Overlap", Two("0,2", "1,3"), "\"b\": data_offsets [1, 3] overlaps"},
        Refusal{"SamePlace", Two("0,2", "0,2"), "overlaps"},
        Refusal{"EmptyTensorInsideAnother",
                FileOf(R"({"e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
                       R"("t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                       "1234"),
                "\"e\": data_offsets [2, 2] overlaps"},
        Refusal{"EmptyTensorPastTheEnd",
                FileOf(R"({"e":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}})", ""), "\"e\""}),
    NameOf);

TEST(SafetensorsReader, ElementTypesWeLackAreUnimplementedByName) {
  const std::string file =
      FileOf(R"({"t":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", "1234");
  EXPECT_THAT(SafetensorsReader::FromBytes("the-file", file),
              StatusIs(StatusCode::kUnimplemented,
                       AllOf(HasSubstr("the-file"), HasSubstr("\"t\""), HasSubstr("F8_E4M3"))));
}

TEST(SafetensorsReader, HostileNamesDoNotFillTheMessage) {
  const std::string name(1 << 20, 'n');
  const auto read = SafetensorsReader::FromBytes("the-file", FileOf("{\"" + name + "\":1}", ""));
  ASSERT_THAT(read, StatusIs(StatusCode::kInvalidArgument));
  EXPECT_LT(read.status().message().size(), 500u);
}

}  // namespace
}  // namespace secateur
