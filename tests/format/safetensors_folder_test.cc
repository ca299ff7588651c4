#include "server/format/safetensors_reader.h"
#include "tests/format/safetensors_files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

TestTensor Bytes(const std::string& name, const std::string& bytes) {
  return {{name, DType::kU8, {static_cast<int64_t>(bytes.size())}}, bytes};
}

// Two shards with the tensors a and b, and c; each test writes the index.
class ShardedFolder : public testing::Test {
 protected:
  ShardedFolder() {
    folder_.Write("one.safetensors", Written({Bytes("a", "A"), Bytes("b", "BB")}));
    folder_.Write("two.safetensors", Written({Bytes("c", "CCC")}));
  }
  absl::StatusOr<SafetensorsFolder> OpenWith(std::string_view index) {
    folder_.Write("model.safetensors.index.json", index);
    return SafetensorsFolder::Open(folder_.path());
  }
  absl::StatusOr<SafetensorsFolder> OpenWithMap(const std::string& map) {
    return OpenWith("{\"metadata\":{\"total_size\":6},\"weight_map\":{" + map + "}}");
  }
  static auto Refused(const std::string& first, const std::string& second = "") {
    return StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr(first), HasSubstr(second)));
  }

  TempDir folder_;
};

constexpr char kGoodMap[] = R"("a":"one.safetensors","b":"one.safetensors","c":"two.safetensors")";

TEST_F(ShardedFolder, ReadsAllShards) {
  ASSERT_OK_AND_ASSIGN(const SafetensorsFolder model, OpenWithMap(kGoodMap));
  EXPECT_THAT(model.files(), SizeIs(2));
  EXPECT_THAT(model.tensors(), SizeIs(3));
  EXPECT_EQ(model.Find("a")->bytes, "A");
  EXPECT_EQ(model.Find("b")->bytes, "BB");
  EXPECT_EQ(model.Find("c")->bytes, "CCC");
  EXPECT_THAT(model.Find("d"), StatusIs(StatusCode::kNotFound,
                                        AllOf(HasSubstr(folder_.path()), HasSubstr("\"d\""))));
}

TEST_F(ShardedFolder, MetadataOfTheIndexMayHoldAnything) {
  EXPECT_OK(OpenWith(std::string(R"({"metadata":{"x":[1,{"y":null}],"s":1e9},"weight_map":{)") +
                     kGoodMap + R"(},"extra":[[]]})"));
}

TEST_F(ShardedFolder, ASingleFileComesBeforeAnIndex) {
  folder_.Write("model.safetensors", Written({Bytes("only", "x")}));
  ASSERT_OK_AND_ASSIGN(const SafetensorsFolder model, OpenWith("not even JSON"));
  EXPECT_THAT(model.files(), SizeIs(1));
  EXPECT_OK(model.Find("only"));
}

TEST_F(ShardedFolder, ABrokenSingleFileIsNotPassedOver) {
  folder_.Write("model.safetensors", "broken");
  EXPECT_THAT(OpenWithMap(kGoodMap), Refused(folder_.Join("model.safetensors")));
}

TEST(SafetensorsFolder, WithoutFilesIsNotFound) {
  const TempDir folder;
  EXPECT_THAT(SafetensorsFolder::Open(folder.path()),
              StatusIs(StatusCode::kNotFound,
                       AllOf(HasSubstr(folder.path()), HasSubstr("model.safetensors.index.json"))));
}

TEST_F(ShardedFolder, AnIndexThatPlacesATensorElsewhereIsRefused) {
  EXPECT_THAT(OpenWithMap(R"("a":"two.safetensors","b":"one.safetensors","c":"two.safetensors")"),
              Refused("\"a\"", "places in \"two.safetensors\""));
}

TEST_F(ShardedFolder, ATensorThatNoShardHoldsIsRefused) {
  EXPECT_THAT(OpenWithMap(std::string(kGoodMap) + R"(,"ghost":"two.safetensors")"),
              Refused("two.safetensors lacks the tensor \"ghost\""));
}

TEST_F(ShardedFolder, ATensorThatTheIndexDoesNotNameIsRefused) {
  EXPECT_THAT(OpenWithMap(R"("a":"one.safetensors","c":"two.safetensors")"),
              Refused("\"b\"", "does not name"));
}

TEST_F(ShardedFolder, ATensorInTwoShardsIsRefused) {
  folder_.Write("two.safetensors", Written({Bytes("a", "!"), Bytes("c", "CCC")}));
  EXPECT_THAT(OpenWithMap(kGoodMap), Refused("two.safetensors", "\"a\""));
}

TEST_F(ShardedFolder, AMissingShardIsRefused) {
  EXPECT_THAT(OpenWithMap(std::string(kGoodMap) + R"(,"d":"three.safetensors")"),
              Refused("\"three.safetensors\", which is missing"));
}

TEST_F(ShardedFolder, ABrokenShardIsRefusedByName) {
  folder_.Write("two.safetensors", "broken");
  EXPECT_THAT(OpenWithMap(kGoodMap), Refused(folder_.Join("two.safetensors")));
}

TEST_F(ShardedFolder, ShardNamesStayInTheFolder) {
  for (const std::string name : {"../one.safetensors", "/etc/passwd", "sub/one.safetensors", "",
                                 ".", "..", "one\\\\two", "one.safetensors\\u0000"}) {
    EXPECT_THAT(OpenWithMap("\"a\":\"" + name + "\""),
                Refused("\"a\"", "is not a file name in this folder"))
        << name;
  }
}

TEST_F(ShardedFolder, MalformedIndexesAreRefused) {
  const std::string path = folder_.Join("model.safetensors.index.json");
  const std::pair<std::string, std::string> cases[] = {
      {"", "not valid JSON"},
      {"{\"weight_map\":", "not valid JSON"},
      {"[]", "\"weight_map\" is missing"},
      {"{}", "\"weight_map\" is missing"},
      {R"({"weight_map":{}})", "names no tensor"},
      {R"({"weight_map":[]})", "does not map strings to strings"},
      {R"({"weight_map":"one.safetensors"})", "does not map strings to strings"},
      {R"({"weight_map":{"a":1}})", "does not map strings to strings"},
      {R"({"weight_map":{"a":{"b":"one.safetensors"}}})", "does not map strings to strings"},
      {R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})", "\"a\" appears twice"},
      {R"({"weight_map":{"a":"one.safetensors"},"weight_map":{}})", "\"weight_map\" appears twice"},
      {"{\"metadata\":" + std::string(100000, '['), "nested deeper"},
  };
  for (const auto& [index, message] : cases) {
    EXPECT_THAT(OpenWith(index), Refused(path, message)) << index.substr(0, 80);
  }
}

}  // namespace
}  // namespace secateur
