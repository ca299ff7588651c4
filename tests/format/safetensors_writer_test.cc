#include "server/format/safetensors_writer.h"

#include <limits>
#include <random>

#include "server/format/safetensors_reader.h"
#include "tests/format/safetensors_files.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::SizeIs;

class WriterTest : public testing::Test {
 protected:
  std::string out_;
  SafetensorsWriter writer_{[this](std::string_view data) {
    out_.append(data);
    return absl::OkStatus();
  }};
};

std::vector<TestTensor> RandomTensors(std::mt19937& random) {
  constexpr DType kTypes[] = {DType::kF64, DType::kI8, DType::kF32, DType::kBF16};
  std::vector<TestTensor> tensors;
  for (const DType dtype : kTypes) {
    for (int i = static_cast<int>(random() % 4); i > 0; --i) {
      TestTensor tensor{{"tensor " + std::to_string(random()), dtype, {}}, ""};
      for (int d = static_cast<int>(random() % 4); d > 0; --d) {
        tensor.spec.shape.push_back(static_cast<int64_t>(random() % 5));
      }
      tensor.bytes.resize(static_cast<size_t>(ByteSize(tensor.spec)));
      for (char& byte : tensor.bytes) byte = static_cast<char>(random());
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

TEST(SafetensorsWriter, WhatIsWrittenIsReadBack) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const std::vector<TestTensor> tensors = RandomTensors(random);
    const std::map<std::string, std::string> metadata = {{"round", std::to_string(round)}};
    ASSERT_OK_AND_ASSIGN(const SafetensorsReader reader,
                         SafetensorsReader::FromBytes("made", Written(tensors, metadata)));
    EXPECT_EQ(reader.metadata(), metadata);
    EXPECT_THAT(reader.tensors(), SizeIs(tensors.size()));
    for (const TestTensor& tensor : tensors) {
      ASSERT_OK_AND_ASSIGN(const TensorView view, reader.Find(tensor.spec.name));
      EXPECT_EQ(view.dtype, tensor.spec.dtype);
      EXPECT_EQ(view.shape, tensor.spec.shape);
      EXPECT_EQ(view.bytes, tensor.bytes);
    }
  }
}

TEST_F(WriterTest, HeaderAndDataKeepTheOrderDeclared) {
  ASSERT_OK(writer_.Begin({{"z", DType::kI16, {1}}, {"a", DType::kI16, {1}}}, {{"k", "v"}}));
  ASSERT_OK(writer_.Write("zz"));
  ASSERT_OK(writer_.Write("aa"));
  ASSERT_OK(writer_.Finish());
  const std::string header =
      R"({"__metadata__":{"k":"v"},"z":{"dtype":"I16","shape":[1],"data_offsets":[0,2]},)"
      R"("a":{"dtype":"I16","shape":[1],"data_offsets":[2,4]}})";
  const std::string padded = header + std::string(7 - (header.size() + 7) % 8, ' ');
  EXPECT_EQ(padded.size() % 8, 0u);
  EXPECT_EQ(out_, FileOf(padded, "zzaa"));
}

TEST_F(WriterTest, SeveralWritesMayCarryOneTensor) {
  ASSERT_OK(writer_.Begin({{"a", DType::kU8, {5}}, {"empty", DType::kU8, {0}}}, {}));
  for (const std::string_view part : {"12", "", "3", "45"}) ASSERT_OK(writer_.Write(part));
  ASSERT_OK(writer_.Finish());
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::FromBytes("made", out_));
  EXPECT_EQ(reader.Find("a")->bytes, "12345");
  EXPECT_EQ(reader.Find("empty")->bytes, "");
}

TEST_F(WriterTest, AFileMayHaveNoTensors) {
  ASSERT_OK(writer_.Begin({}, {}));
  ASSERT_OK(writer_.Finish());
  EXPECT_EQ(out_, FileOf("{}      ", ""));
}

TEST_F(WriterTest, NamesAndMetadataMayHoldAnyText) {
  const std::string name("\"quoted\"\n\\ 층 \0", 17);
  ASSERT_OK(writer_.Begin({{name, DType::kU8, {0}}}, {{"언어", "ko\t\"\x01"}}));
  ASSERT_OK(writer_.Finish());
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::FromBytes("made", out_));
  EXPECT_OK(reader.Find(name));
  EXPECT_THAT(reader.metadata(), ElementsAre(Pair("언어", "ko\t\"\x01")));
}

TEST_F(WriterTest, CallsOutOfOrderNameTheTensor) {
  const auto refused = [](auto matcher) {
    return StatusIs(absl::StatusCode::kFailedPrecondition, matcher);
  };
  EXPECT_THAT(writer_.Write("x"), refused(HasSubstr("before Begin()")));
  EXPECT_THAT(writer_.Finish(), refused(HasSubstr("before Begin()")));
  ASSERT_OK(writer_.Begin({{"first", DType::kU8, {2}}, {"second", DType::kU8, {2}}}, {}));
  EXPECT_THAT(writer_.Begin({}, {}), refused(HasSubstr("before")));
  EXPECT_THAT(writer_.Write("123"), refused(AllOf(HasSubstr("\"first\""), HasSubstr("lacks 2"))));
  ASSERT_OK(writer_.Write("12"));
  ASSERT_OK(writer_.Write("3"));
  EXPECT_THAT(writer_.Finish(), refused(AllOf(HasSubstr("\"second\""), HasSubstr("lacks 1"))));
  ASSERT_OK(writer_.Write("4"));
  EXPECT_THAT(writer_.Write("5"), refused(HasSubstr("\"second\"")));
  ASSERT_OK(writer_.Finish());
  EXPECT_THAT(writer_.Finish(), refused(HasSubstr("after Finish()")));
  EXPECT_THAT(writer_.Write(""), refused(HasSubstr("after Finish()")));
}

TEST_F(WriterTest, BadSpecsAreRefusedByNameAndNothingIsWritten) {
  struct Case {
    std::vector<TensorSpec> specs;
    std::string_view message;
  };
  const Case cases[] = {
      {{{"twice", DType::kU8, {1}}, {"twice", DType::kU8, {1}}}, "\"twice\" is taken"},
      {{{"__metadata__", DType::kU8, {1}}}, "\"__metadata__\" is taken"},
      {{{"bad\xff", DType::kU8, {1}}}, "\"bad\\xff\" is not UTF-8"},
      {{{"minus", DType::kU8, {-1}}}, "\"minus\": shape [-1]"},
      {{{"huge", DType::kF32, {int64_t{1} << 62}}}, "\"huge\""},
      {{{"a", DType::kU8, {std::numeric_limits<int64_t>::max()}}, {"b", DType::kU8, {1}}}, "\"b\""},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(writer_.Begin(c.specs, {}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(c.message))));
  }
  EXPECT_THAT(writer_.Begin({}, {{"key", "\xc0\x80"}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(out_, "");
}

TEST(SafetensorsWriter, ASinksErrorEndsTheFile) {
  bool broken = false;
  SafetensorsWriter writer([&broken](std::string_view) {
    return broken ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
  });
  ASSERT_OK(writer.Begin({{"a", DType::kU8, {2}}}, {}));
  broken = true;
  EXPECT_THAT(writer.Write("1"), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  broken = false;
  EXPECT_THAT(writer.Write("12"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace secateur
