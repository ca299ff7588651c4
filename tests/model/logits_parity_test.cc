// Our logits against those of the installed Transformers, in float32: for every tiny model, and for
// the real models where the environment names their folders. Needs
//   SECATEUR_TEST_PYTHON                 an interpreter with Transformers
//   SECATEUR_SMOLLM2, SECATEUR_GEMMA3    folders of the real models
//   SECATEUR_TEST_DATA                   folder with profile/*.jsonl, real text
// and skips what is not there, saying so. Transformers' own difference between its two attention
// implementations is printed beside ours.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/format/safetensors_reader.h"
#include "server/model/torch_guard.h"
#include "server/model/transformer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

const char* Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// Runs Transformers on `request`; nothing when it failed.
absl::StatusOr<SafetensorsReader> RunReference(const std::string& folder, const Json& request,
                                               const TempDir& scratch) {
  const std::string in = scratch.Write("request.json", request.dump());
  const std::string out = scratch.Join("reference.safetensors");
  const std::string command = std::string("'") + Environment("SECATEUR_TEST_PYTHON") + "' '" +
                              SECATEUR_SOURCE_DIR "/tests/model/logits_reference.py' '" + folder +
                              "' '" + in + "' '" + out + "' 2>'" + scratch.Join("log") + "'";
  const int status = std::system(command.c_str());
  if (status != 0) {
    std::ifstream log(scratch.Join("log"));
    return absl::InternalError(command + " ended with " + std::to_string(status) + ": " +
                               std::string(std::istreambuf_iterator<char>(log), {}));
  }
  return SafetensorsReader::Open(out);
}

// A copy of a stored tensor.
at::Tensor Stored(const SafetensorsReader& reader, const std::string& name) {
  const TensorView view = reader.Find(name).value();
  const at::ScalarType type = view.dtype == DType::kI64 ? at::kLong : at::kFloat;
  return at::from_blob(const_cast<char*>(view.bytes.data()), view.shape, type).clone();
}

PackedBatch Pack(const SafetensorsReader& reader, size_t sequences) {
  PackedBatch batch;
  batch.offsets = {0};
  for (size_t i = 0; i < sequences; ++i) {
    const at::Tensor ids = Stored(reader, "ids." + std::to_string(i));
    const int64_t* data = ids.const_data_ptr<int64_t>();
    batch.ids.insert(batch.ids.end(), data, data + ids.numel());
    batch.offsets.push_back(batch.tokens());
  }
  return batch;
}

struct Difference {
  double ours = 0.0, eager = 0.0, largest_logit = 0.0;
};

// All sequences in one batch; rows as the script kept them.
Difference Compare(const Transformer& model, const SafetensorsReader& reference, size_t sequences,
                   int64_t stride) {
  RunContext context;
  const PackedBatch batch = Pack(reference, sequences);
  const at::Tensor hidden = model.Forward(batch, context).value();
  Difference difference;
  for (size_t i = 0; i < sequences; ++i) {
    const c10::InferenceMode inference;
    const at::Tensor rows =
        hidden.slice(0, batch.offsets[i], batch.offsets[i + 1]).flip(0).slice(0, 0, {}, stride);
    const at::Tensor expected = Stored(reference, "logits." + std::to_string(i));
    const at::Tensor found = model.Logits(rows.flip(0)).value();
    EXPECT_EQ(found.sizes(), expected.sizes());
    difference.ours = std::max(difference.ours, (found - expected).abs().max().item<double>());
    difference.eager =
        std::max(difference.eager, Stored(reference, "eager." + std::to_string(i)).item<double>());
    difference.largest_logit =
        std::max(difference.largest_logit, expected.abs().max().item<double>());
  }
  return difference;
}

void ExpectParity(const std::string& name, const Difference& difference) {
  std::cout << "[ parity   ] " << name << ": largest difference " << difference.ours
            << " of largest logit " << difference.largest_logit << " ("
            << difference.ours / difference.largest_logit
            << "); Transformers' own eager against SDPA " << difference.eager << "\n";
  EXPECT_GT(difference.largest_logit, 0.0);
  EXPECT_LE(difference.ours, 1e-3 * difference.largest_logit);
}

std::unique_ptr<Transformer> Load(const std::string& folder) {
  RunContext context;
  return Transformer::Load(ModelFolder::Open(folder).value(), Device{}, context).value();
}

// The table's shapes by name, as Transformers counts parameters: a tied head is none.
std::map<std::string, std::vector<int64_t>> TableShapes(const ModelConfig& config) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorInfo& info : TensorTable(config)) shapes[info.name] = info.shape;
  return shapes;
}

class TinyModelParity : public testing::TestWithParam<std::string> {};

TEST_P(TinyModelParity, LogitsAndTensorsAreThoseOfTransformers) {
  if (Environment("SECATEUR_TEST_PYTHON") == nullptr) {
    GTEST_SKIP() << "SECATEUR_TEST_PYTHON is not set: no Transformers to compare with";
  }
  TempDir folder;
  TempDir scratch;
  ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder.path()));
  Json request = {{"sequences", Json::array()}};
  // Shorter and longer than the window of 8, and past the context that llama3 scaling starts from.
  for (const int64_t length : {1, 7, 8, 9, 40, 300}) {
    Json ids = Json::array();
    for (int64_t i = 0; i < length; ++i) ids.push_back((i * i * 31 + 7 * i + length) % 272);
    request["sequences"].push_back(ids);
  }
  ASSERT_OK_AND_ASSIGN(const SafetensorsReader reference,
                       RunReference(folder.path(), request, scratch));
  const auto model = Load(folder.path());
  ExpectParity(GetParam(), Compare(*model, reference, request["sequences"].size(), 1));
  const auto shapes = Json::parse(reference.metadata().at("shapes"))
                          .get<std::map<std::string, std::vector<int64_t>>>();
  EXPECT_EQ(TableShapes(model->config()), shapes);
}

std::vector<std::string> TinyNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModelParity, testing::ValuesIn(TinyNames()),
                         [](const auto& test) { return test.param; });

// The first text of every 8th file of profile/.
std::vector<std::string> RealTexts(const std::string& data) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(data + "/profile")) {
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> texts;
  for (size_t i = 0; i < files.size(); i += 8) {
    std::ifstream in(files[i]);
    std::string line;
    std::getline(in, line);
    texts.push_back(Json::parse(line)["text"]);
  }
  return texts;
}

void ExpectRealModelParity(const char* variable) {
  for (const char* needed : {"SECATEUR_TEST_PYTHON", "SECATEUR_TEST_DATA", variable}) {
    if (Environment(needed) == nullptr) GTEST_SKIP() << needed << " is not set";
  }
  const std::string folder = Environment(variable);
  std::vector<std::string> texts = RealTexts(Environment("SECATEUR_TEST_DATA"));
  ASSERT_GE(texts.size(), 4U);
  const auto model = Load(folder);
  // Many short documents, then all in one: longer than Gemma 3's window of 512.
  std::string all;
  for (const std::string& text : texts) all += text + "\n";
  for (const auto& [kind, chosen, tokens, stride] :
       {std::tuple{"documents", texts, 192, 8},
        std::tuple{"one long text", std::vector{all}, 1200, 16}}) {
    TempDir scratch;
    const Json request = {{"texts", chosen},
                          {"first_token", model->config().first_token_id},
                          {"max_tokens", tokens},
                          {"stride", stride}};
    ASSERT_OK_AND_ASSIGN(const SafetensorsReader reference, RunReference(folder, request, scratch));
    ExpectParity(std::string(variable) + ", " + kind,
                 Compare(*model, reference, chosen.size(), stride));
  }
}

TEST(RealModelParity, LogitsOfSmolLm2AreThoseOfTransformers) {
  ExpectRealModelParity("SECATEUR_SMOLLM2");
}

TEST(RealModelParity, LogitsOfGemma3AreThoseOfTransformers) {
  ExpectRealModelParity("SECATEUR_GEMMA3");
}

}  // namespace
}  // namespace secateur
