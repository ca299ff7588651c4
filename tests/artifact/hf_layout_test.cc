#include "server/artifact/hf_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "server/base/strings.h"
#include "server/storage/memory_store.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kOneShard = int64_t{1} << 40;

class HfLayout : public testing::Test {
 protected:
  HfLayout() {
    folder_.Write("model.safetensors", RandomWeights(config_, DType::kBF16));
    base_ = SafetensorsFolder::Open(folder_.path()).value();
    source_ = MakeSlicedSource(config_, base_, mask_).value();
  }

  // Files by name, checked against what WriteWeights says of them.
  std::map<std::string, std::string> Write(const TensorSource& source, int64_t max_shard_bytes,
                                           int threads = 2) {
    MemoryStore store;
    RunContext context;
    const auto files = WriteWeights(source, store, "p/", {max_shard_bytes, threads}, context);
    EXPECT_OK(files);
    std::map<std::string, std::string> out;
    if (!files.ok()) return out;
    std::string last;
    for (const ArtifactFile& file : *files) {
      EXPECT_LT(last, file.name);
      last = file.name;
      out[file.name] = store.ReadAll("p/" + file.name, kOneShard).value_or("unreadable");
      EXPECT_EQ(file.size, static_cast<int64_t>(out[file.name].size()));
      EXPECT_EQ(file.digest, Sha256Of(out[file.name]));
    }
    EXPECT_EQ(store.List("", "", 1000)->size(), files->size());
    return out;
  }

  SafetensorsFolder Open(const std::map<std::string, std::string>& files) {
    read_back_ = std::make_unique<TempDir>();
    for (const auto& [name, bytes] : files) read_back_->Write(name, bytes);
    auto folder = SafetensorsFolder::Open(read_back_->path());
    EXPECT_OK(folder);
    return *std::move(folder);
  }

  const ModelConfig config_ = SmallConfig();
  const Mask mask_ = RandomMask(config_, 13);
  const TempDir folder_;
  SafetensorsFolder base_;
  std::unique_ptr<TensorSource> source_;
  std::unique_ptr<TempDir> read_back_;
};

TEST_F(HfLayout, OneFileHoldsEveryTensorOfTheSource) {
  const auto files = Write(*source_, kOneShard);
  ASSERT_THAT(files, SizeIs(1));
  const SafetensorsFolder read = Open(files);
  ASSERT_EQ(read.tensors().size(), source_->specs().size());
  EXPECT_EQ(read.files()[0].metadata().at("format"), "pt");
  for (size_t i = 0; i < source_->specs().size(); ++i) {
    const TensorSpec& spec = source_->specs()[i];
    std::string bytes;
    ASSERT_OK(source_->Stream(i, [&](std::string_view piece) {
      bytes += piece;
      return absl::OkStatus();
    }));
    ASSERT_OK_AND_ASSIGN(const TensorView view, read.Find(spec.name));
    EXPECT_EQ(view.shape, spec.shape);
    EXPECT_EQ(view.dtype, spec.dtype);
    EXPECT_EQ(view.bytes, bytes) << spec.name;
  }
}

TEST_F(HfLayout, ShardsHoldTheSameTensorsAsOneFile) {
  const SafetensorsFolder one = Open(Write(*source_, kOneShard));
  const std::unique_ptr<TempDir> keep = std::move(read_back_);
  for (const int64_t max_bytes : {1, 700, 3'000, 10'000}) {
    const auto files = Write(*source_, max_bytes);
    const SafetensorsFolder shards = Open(files);
    ASSERT_GT(files.size(), 2u) << max_bytes;
    ASSERT_EQ(shards.tensors().size(), one.tensors().size());
    for (const auto& [name, view] : one.tensors()) {
      ASSERT_OK_AND_ASSIGN(const TensorView other, shards.Find(name));
      EXPECT_EQ(other.bytes, view.bytes) << name;
    }
    for (const SafetensorsReader& file : shards.files()) {
      int64_t bytes = 0;
      for (const auto& [name, view] : file.tensors()) {
        bytes += static_cast<int64_t>(view.bytes.size());
      }
      EXPECT_TRUE(bytes <= max_bytes || file.tensors().size() == 1) << file.name();
    }
  }
}

TEST_F(HfLayout, NamesShardsAndWritesTheIndexAsTransformersDoes) {
  const auto files = Write(*source_, 6'000);
  std::vector<std::string> names;
  for (const auto& [name, bytes] : files) names.push_back(name);
  EXPECT_THAT(names,
              ElementsAre("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                          "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                          "model.safetensors.index.json"));
  const std::string& text = files.at("model.safetensors.index.json");
  const auto index = nlohmann::json::parse(text);
  EXPECT_EQ(index.dump(2) + "\n", text);  // keys sorted, two spaces, a newline
  ModelConfig narrow = config_;
  narrow.intermediate_size = 13;
  EXPECT_EQ(index["metadata"]["total_size"], 2 * CountParameters(narrow));
  EXPECT_EQ(index["weight_map"].size(), source_->specs().size());
  EXPECT_EQ(index["weight_map"]["model.embed_tokens.weight"], "model-00001-of-00004.safetensors");
}

TEST_F(HfLayout, TheSameSourceGivesTheSameBytesOnAnyNumberOfThreads) {
  EXPECT_EQ(Write(*source_, kOneShard), Write(*source_, kOneShard));
  const auto once = Write(*source_, 3'000, 1);
  EXPECT_EQ(once, Write(*source_, 3'000, 1));
  EXPECT_EQ(once, Write(*source_, 3'000, 4));
}

TEST_F(HfLayout, ReportsBytesUntilAllAreWritten) {
  int64_t total = 0;
  for (const TensorSpec& spec : source_->specs()) total += ByteSize(spec);
  int64_t last = 0;
  MemoryStore store;
  RunContext context([&](const Progress& progress) {
    EXPECT_EQ(progress.phase, "write");
    EXPECT_EQ(progress.unit, "bytes");
    EXPECT_EQ(progress.total, total);
    EXPECT_GT(progress.done, last);
    last = progress.done;
  });
  ASSERT_OK(WriteWeights(*source_, store, "p/", {3'000, 2}, context));
  EXPECT_EQ(last, total);
}

TEST_F(HfLayout, ACancelStopsWithinATensorAndShowsNoHalfFile) {
  for (const int threads : {1, 2}) {
    MemoryStore store;
    RunContext* running = nullptr;
    int64_t done = 0;
    RunContext context([&](const Progress& progress) {
      done = progress.done;
      running->Cancel();
    });
    running = &context;
    EXPECT_THAT(WriteWeights(*source_, store, "p/", {kOneShard, threads}, context),
                StatusIs(absl::StatusCode::kCancelled));
    EXPECT_EQ(done, ByteSize(source_->specs()[0]));
    EXPECT_THAT(*store.List("", "", 10), IsEmpty());
  }
}

TEST_F(HfLayout, ATakenNameIsRefusedAndLeftAsItIs) {
  MemoryStore store;
  RunContext context;
  ASSERT_OK(store.Put("p/model.safetensors", "other"));
  EXPECT_THAT(WriteWeights(*source_, store, "p/", {}, context),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("p/model.safetensors")));
  EXPECT_THAT(store.ReadAll("p/model.safetensors", 100), IsOkAndHolds(std::string("other")));
}

// Tensors a, b, c; the bytes of b can be made wrong.
class ThreeTensors final : public TensorSource {
 public:
  explicit ThreeTensors(std::string b) : b_(std::move(b)) {}
  const std::vector<TensorSpec>& specs() const override { return specs_; }
  absl::Status Stream(size_t index, const ByteSink& sink) const override {
    if (index == 1 && b_ == "fail") return absl::DataLossError("b cannot be read");
    return sink(index == 1 ? b_ : "1234");
  }

 private:
  const std::string b_;
  const std::vector<TensorSpec> specs_ = {
      {"a", DType::kF32, {1}}, {"b", DType::kF32, {1}}, {"c", DType::kF32, {1}}};
};

TEST(WriteWeights, ASourceThatFailsOrGivesAnotherCountOfBytesIsAnError) {
  for (const int64_t shard : {kOneShard, int64_t{1}}) {
    for (const auto& [b, code, named] :
         {std::tuple{"fail", absl::StatusCode::kDataLoss, "b cannot be read"},
          std::tuple{"123", absl::StatusCode::kFailedPrecondition, "b"},
          std::tuple{"12345", absl::StatusCode::kFailedPrecondition, "b"}}) {
      MemoryStore store;
      RunContext context;
      const ThreeTensors source(b);
      EXPECT_THAT(WriteWeights(source, store, "p/", {shard, 2}, context),
                  StatusIs(code, HasSubstr(named)));
      for (const BlobInfo& blob : store.List("", "", 10).value_or(std::vector<BlobInfo>())) {
        EXPECT_FALSE(absl::StrContains(blob.key, "00002")) << b;  // the shard of b
        EXPECT_NE(blob.key, "p/model.safetensors") << b;
      }
    }
  }
}

TEST(WriteWeights, ACheckpointOfMixedTypesStaysAligned) {
  ModelConfig config = SmallConfig();
  config.hidden_size = 5;  // odd, so that norms of two-byte elements end at odd places
  const TempDir folder;
  std::vector<TensorSpec> specs;
  for (const TensorInfo& info : TensorTable(config)) {
    const bool norm = absl::StrContains(info.name, "norm");
    specs.push_back({info.name, norm ? DType::kBF16 : DType::kF32, info.shape});
  }
  std::stable_sort(specs.begin(), specs.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return ItemSize(a.dtype) > ItemSize(b.dtype);
  });
  std::string file;
  std::mt19937 random(1);
  SafetensorsWriter writer([&](std::string_view bytes) {
    file += bytes;
    return absl::OkStatus();
  });
  ASSERT_OK(writer.Begin(specs, {}));
  for (const TensorSpec& spec : specs) ASSERT_OK(writer.Write(RandomBytes(ByteSize(spec), random)));
  ASSERT_OK(writer.Finish());
  folder.Write("model.safetensors", file);
  ASSERT_OK_AND_ASSIGN(const SafetensorsFolder base, SafetensorsFolder::Open(folder.path()));
  const Mask mask = RandomMask(config, 13);
  ASSERT_OK_AND_ASSIGN(const auto source, MakeSlicedSource(config, base, mask));
  MemoryStore store;
  RunContext context;
  ASSERT_OK(WriteWeights(*source, store, "p/", {}, context));
  const TempDir out;
  out.Write("model.safetensors", store.ReadAll("p/model.safetensors", kOneShard).value());
  ASSERT_OK_AND_ASSIGN(const SafetensorsFolder read, SafetensorsFolder::Open(out.path()));
  for (const TensorSpec& spec : specs) {
    ASSERT_OK_AND_ASSIGN(const TensorView view, read.Find(spec.name));
    EXPECT_EQ(view.dtype, spec.dtype);
    if (view.shape == spec.shape) {
      EXPECT_EQ(view.bytes, base.Find(spec.name)->bytes) << spec.name;
    }
  }
}

TEST(ExpertConfig, ChangesTheWidthAndKeepsEverythingElseInItsOrder) {
  const auto base = nlohmann::ordered_json::parse(
      R"({"zeta":{"b":1,"a":[1,2.5,null]},"intermediate_size":1536,"alpha":"Grüße","eps":1e-05})");
  EXPECT_EQ(
      ConfigText(ExpertConfigJson(base, {.width = 992})),
      "{\n  \"zeta\": {\n    \"b\": 1,\n    \"a\": [\n      1,\n      2.5,\n      null\n    ]\n"
      "  },\n  \"intermediate_size\": 992,\n  \"alpha\": \"Grüße\",\n  \"eps\": 1e-05\n}\n");
}

TEST(ExpertConfig, NamesHeadsAndTheirSizeWhereSomeGo) {
  const auto base = nlohmann::ordered_json::parse(
      R"({"hidden_size":64,"num_attention_heads":4,"intermediate_size":128})");
  const auto config = ExpertConfigJson(
      base, {.width = 96, .heads = AttentionHeads{.heads = 2, .kv_heads = 1, .head_dim = 16}});
  EXPECT_EQ(config, nlohmann::ordered_json::parse(
                        R"({"hidden_size":64,"num_attention_heads":2,"intermediate_size":96,
                            "num_key_value_heads":1,"head_dim":16})"));
}

TEST(CarriedFiles, AreThoseOfTheTokenizerTheGenerationAndTheLicence) {
  const TempDir base;
  const std::vector<std::string> carried = {"GEMMA_TERMS.html",
                                            "LICENCE.md",
                                            "LICENSE",
                                            "NOTICE.txt",
                                            "USE_POLICY.md",
                                            "added_tokens.json",
                                            "chat_template.jinja",
                                            "generation_config.json",
                                            "license.txt",
                                            "merges.txt",
                                            "special_tokens_map.json",
                                            "tokenizer.json",
                                            "tokenizer.model",
                                            "tokenizer_config.json",
                                            "vocab.json"};
  for (const std::string& name : carried) base.Write(name, name);
  for (const char* name : {"config.json", "README.md", "model.safetensors", "pytorch_model.bin",
                           "tokenizer.json.bak", "model.safetensors.index.json", "run.py"}) {
    base.Write(name, "not carried");
  }
  base.Write("LICENSES/MIT.txt", "a folder");
  EXPECT_THAT(CarriedFiles(base.path()), IsOkAndHolds(testing::ContainerEq(carried)));
}

TEST(CarriedFiles, FollowsLinksAndPassesOverThoseToNowhere) {
  const TempDir cache;
  const TempDir base;
  const std::string blob = cache.Write("blobs/abc", "{}");
  std::filesystem::create_symlink(blob, base.Join("tokenizer.json"));
  std::filesystem::create_symlink(base.Join("gone"), base.Join("vocab.json"));
  EXPECT_THAT(CarriedFiles(base.path()), IsOkAndHolds(ElementsAre("tokenizer.json")));
}

TEST(CarriedFiles, NamesAFileThatAStoreCannotHoldAndAFolderThatIsNotThere) {
  const TempDir base;
  base.Write("LICENSE (copy)", "x");
  EXPECT_THAT(CarriedFiles(base.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("LICENSE (copy)")));
  EXPECT_THAT(CarriedFiles(base.Join("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(base.Join("none"))));
}

TEST(CopyFile, CopiesAFileOfAnySizeWithItsDigest) {
  std::mt19937 random(2);
  const TempDir base;
  for (const int64_t size : {0, 1, 1 << 20, (5 << 19) + 3}) {
    MemoryStore store;
    RunContext context;
    const std::string bytes = RandomBytes(size, random);
    const std::string path = base.Write("LICENSE", bytes);
    ASSERT_OK_AND_ASSIGN(const ArtifactFile file, CopyFile(path, "LICENSE", store, "p/", context));
    EXPECT_EQ(file.name, "LICENSE");
    EXPECT_EQ(file.size, size);
    EXPECT_EQ(file.digest, Sha256Of(bytes));
    EXPECT_THAT(store.ReadAll("p/LICENSE", kOneShard), IsOkAndHolds(bytes));
  }
}

TEST(CopyFile, RefusesNamesThatLeaveThePrefixAndFilesThatAreNotThere) {
  const TempDir base;
  MemoryStore store;
  RunContext context;
  const std::string path = base.Write("LICENSE", "x");
  for (const char* name : {"../x", "a/b", "", "..", "a b", "/x", "x\n"}) {
    EXPECT_THAT(CopyFile(path, name, store, "p/", context),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << name;
    EXPECT_THAT(PutFile(name, "x", store, "p/"), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(CopyFile(base.Join("none"), "none", store, "p/", context),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  context.Cancel();
  EXPECT_THAT(CopyFile(path, "LICENSE", store, "p/", context),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(*store.List("", "", 10), IsEmpty());
}

TEST(PutFile, KeepsTheBytesAndSaysTheirDigest) {
  MemoryStore store;
  ASSERT_OK_AND_ASSIGN(const ArtifactFile file, PutFile("config.json", "{}\n", store, "p/"));
  EXPECT_EQ(file.size, 3);
  EXPECT_EQ(file.digest, Sha256Of("{}\n"));
  EXPECT_THAT(store.ReadAll("p/config.json", 100), IsOkAndHolds(std::string("{}\n")));
}

}  // namespace
}  // namespace secateur
