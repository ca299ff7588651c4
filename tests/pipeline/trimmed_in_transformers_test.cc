// Experts with a trimmed vocabulary in stock Transformers: model and tokenizer load without a word
// and give what the base gives, in the rows that stay.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "server/model/compute_threads.h"
#include "server/pipeline/build_expert.h"
#include "server/storage/local_copy.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

// Letters, digits and signs of more than one byte.
constexpr char kTheme[] = "orange trees, größere Bäume, 12 300 €";

class TrimmedInTransformers : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("SECATEUR_TEST_PYTHON") == nullptr) {
      GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
    }
    SetComputeThreads(1);  // tests share the machine
  }

  // A tiny base; with `real`, a model's folder, with its vocabulary and its tokenizer.
  const std::string& AddBase(const std::string& name, const char* real = nullptr) {
    const std::string& folder = bases_.emplace_back(temp_.Join(StrCat("base", bases_.size())));
    fs::create_directory(folder);
    TinyModel tiny = FindTinyModel(name);
    tiny.config["vocab_size"] = 832;
    if (real != nullptr) {
      nlohmann::json config;
      std::ifstream(StrCat(real, "/config.json")) >> config;
      for (const char* key : {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}) {
        if (config.contains(key)) tiny.config[key] = config[key];
      }
    }
    EXPECT_OK(WriteTinyModel(tiny, folder));
    if (real == nullptr) return folder;
    for (const char* file : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                             "generation_config.json"}) {
      fs::copy_file(StrCat(real, "/", file), StrCat(folder, "/", file),
                    fs::copy_options::overwrite_existing);
    }
    return folder;
  }

  // Its expert, whole layers behind the rows that kTheme needs.
  void AddExpert(const std::string& base) {
    TestStores stores;
    stores.Add({{"language", "en"}}, 40, kTheme);
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(base));
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const auto model, ResidentModel::Load("tiny", folder, Device{}, context));
    ASSERT_OK(model->WaitForDigest(context));
    ExpertRequest request = RequestFor({{"language", {"en"}, 1}});
    request.neurons = false;
    request.vocabulary = true;
    ASSERT_OK_AND_ASSIGN(const StoredExpert expert,
                         BuildExpert(*model, request, {}, stores.all(), context));
    ASSERT_OK_AND_ASSIGN(const LocalCopy copy, LocalCopy::Of(stores.blobs, expert.prefix, context));
    fs::copy(copy.path(), base + ".expert");
  }

  void ExpectTheSameInTransformers() const {
    std::string command = StrCat("\"", std::getenv("SECATEUR_TEST_PYTHON"), "\" \"",
                                 SECATEUR_SOURCE_DIR, "/tests/pipeline/trimmed_peer.py\" \"",
                                 kTheme, " is what the text number 7 is on.\"");
    for (const std::string& base : bases_) command += StrCat(" ", base, " ", base, ".expert");
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  const TempDir temp_;
  std::vector<std::string> bases_;
};

// Tied and untied, both families.
TEST_F(TrimmedInTransformers, GivesTheBasesLogitsInTheRowsThatStay) {
  for (const char* name : {"llama_gqa", "llama_mha", "gemma3", "gemma3_pattern"}) {
    ASSERT_NO_FATAL_FAILURE(AddExpert(AddBase(name)));
  }
  ExpectTheSameInTransformers();
}

TEST_F(TrimmedInTransformers, GivesTheSameByRealTokenizers) {
  const std::pair<const char*, const char*> models[] = {{"llama_gqa", "SECATEUR_SMOLLM2"},
                                                        {"gemma3", "SECATEUR_GEMMA3"}};
  for (const auto& [name, variable] : models) {
    const char* folder = std::getenv(variable);
    if (folder == nullptr) GTEST_SKIP() << variable << " names no model folder";
    ASSERT_NO_FATAL_FAILURE(AddExpert(AddBase(name, folder)));
  }
  ExpectTheSameInTransformers();
}

}  // namespace
}  // namespace secateur
