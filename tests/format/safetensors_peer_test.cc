// Our files and those of Hugging Face's own Python package, read by each other.

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_join.h"
#include "server/base/digest.h"
#include "server/format/safetensors_reader.h"
#include "tests/format/safetensors_files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

class SafetensorsPeer : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("SECATEUR_TEST_PYTHON") == nullptr) {
      GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with safetensors and torch";
    }
  }
  // The exit code of safetensors_peer.py.
  static int Python(const std::string& arguments) {
    const std::string script = std::string(SECATEUR_FORMAT_TESTS) + "/safetensors_peer.py";
    const std::string command = "\"" + std::string(std::getenv("SECATEUR_TEST_PYTHON")) + "\" \"" +
                                script + "\" " + arguments;
    return std::system(command.c_str());
  }
  // What safetensors_peer.py says of the file at `path`.
  std::string ListedByPython(const std::string& path) {
    const std::string output = folder_.Join("list");
    EXPECT_EQ(Python("list \"" + path + "\" \"" + output + "\""), 0);
    std::stringstream text;
    text << std::ifstream(output).rdbuf();
    return text.str();
  }

  TempDir folder_;
};

std::string List(const SafetensorsReader& reader) {
  std::string lines;
  for (const auto& [name, view] : reader.tensors()) {
    lines += name + " " + std::string(DTypeName(view.dtype)) + " " +
             absl::StrJoin(view.shape, "x") + " " + Sha256Of(view.bytes).Hex() + "\n";
  }
  return lines;
}

template <class T>
std::string BytesOf(std::vector<T> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

TEST_F(SafetensorsPeer, WeReadWhatPythonWrites) {
  const std::string path = folder_.Join("python.safetensors");
  ASSERT_EQ(Python("write \"" + path + "\""), 0);
  ASSERT_OK_AND_ASSIGN(const auto reader, SafetensorsReader::Open(path));
  EXPECT_THAT(reader.metadata(),
              UnorderedElementsAre(Pair("format", "pt"), Pair("언어", "한국어")));
  EXPECT_EQ(reader.tensors().size(), 5u);
  EXPECT_EQ(reader.Find("bytes")->bytes, std::string_view("\0\1\2\3\4", 5));
  EXPECT_EQ(reader.Find("matrix")->bytes, BytesOf<float>({0, 1, 2, 3, 4, 5}));
  EXPECT_THAT(reader.Find("matrix")->shape, ElementsAre(2, 3));
  EXPECT_EQ(reader.Find("half")->dtype, DType::kBF16);
  EXPECT_EQ(reader.Find("half")->bytes, BytesOf<uint16_t>({0x3F80, 0xC000}));
  EXPECT_EQ(reader.Find("scalar")->bytes, BytesOf<int64_t>({-7}));
  EXPECT_THAT(reader.Find("scalar")->shape, ElementsAre());
  EXPECT_THAT(reader.Find("empty")->shape, ElementsAre(0, 4));
  EXPECT_EQ(List(reader), ListedByPython(path));
}

TEST_F(SafetensorsPeer, PythonReadsWhatWeWrite) {
  const std::string path = folder_.Write(
      "ours.safetensors",
      Written({{{"wide", DType::kF64, {3, 2}}, BytesOf<double>({0, 1, 2, 3, 4, 5})},
               {{"empty", DType::kBF16, {2, 0}}, ""},
               {{"bytes", DType::kU8, {3}}, "\1\2\3"},
               {{"층.weight", DType::kI32, {4}},
                BytesOf<int32_t>({0, 1, 2, 3})},  // off its alignment  // off its alignment
               {{"scalar", DType::kBool, {}}, "\1"}},
              {{"format", "pt"}, {"key", "a \"value\"\n"}}));
  EXPECT_EQ(Python("check \"" + path + "\""), 0);
}

TEST_F(SafetensorsPeer, ARealModelReadsAsPythonReadsIt) {
  const char* model = std::getenv("SECATEUR_SMOLLM2");
  if (model == nullptr) GTEST_SKIP() << "SECATEUR_SMOLLM2 names no model folder";
  ASSERT_OK_AND_ASSIGN(const auto folder, SafetensorsFolder::Open(model));
  ASSERT_EQ(folder.files().size(), 1u);
  EXPECT_EQ(List(folder.files()[0]), ListedByPython(folder.files()[0].name()));
}

}  // namespace
}  // namespace secateur
