// The parts of `benchmarks/speed/run` that time the server's own code without RPC. Reads one
// command a line, does it once, and prints one JSON object a line; the driver takes turns with the
// peers.
//
//   profile MODEL_FOLDER IDS_FILE   IDS_FILE: one document a line, token ids separated by spaces
//   write MODEL_FOLDER OUT_FOLDER MAX_SHARD_BYTES WIDTH
//   compose LAYERS NEURONS FOLDER   three dimensions; FOLDER is where profiles are stored and read
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "server/artifact/hf_layout.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/mask/compose.h"
#include "server/mask/convergence.h"
#include "server/model/compute_threads.h"
#include "server/model/transformer.h"
#include "server/profile/collector.h"
#include "server/profile/profile_store.h"
#include "server/storage/local_store.h"

namespace secateur {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kBlockTokens = 2048;

class Timer {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Documents packed as the server packs them.
std::vector<PackedBatch> ReadBlocks(const std::string& path) {
  std::vector<PackedBatch> blocks;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    std::vector<int32_t> ids{std::istream_iterator<int32_t>(numbers), {}};
    const auto size = static_cast<int64_t>(ids.size());
    if (blocks.empty() || blocks.back().tokens() + size > kBlockTokens) {
      blocks.push_back({.ids = {}, .offsets = {0}});
    }
    blocks.back().ids.insert(blocks.back().ids.end(), ids.begin(), ids.end());
    blocks.back().offsets.push_back(blocks.back().tokens());
  }
  return blocks;
}

absl::StatusOr<const Transformer*> LoadOnce(const std::string& folder) {
  static std::map<std::string, std::unique_ptr<Transformer>> models;
  if (!models.contains(folder)) {
    RunContext context;
    ASSIGN_OR_RETURN(auto opened, ModelFolder::Open(folder));
    ASSIGN_OR_RETURN(models[folder], Transformer::Load(std::move(opened), Device{}, context));
  }
  return models[folder].get();
}

absl::StatusOr<nlohmann::json> TimeProfile(const std::string& folder, const std::string& ids) {
  ASSIGN_OR_RETURN(const Transformer* model, LoadOnce(folder));
  const std::vector<PackedBatch> blocks = ReadBlocks(ids);
  RunContext context;
  ASSIGN_OR_RETURN(const auto collector, ProfileCollector::Create(*model));
  const Timer timer;
  for (const PackedBatch& block : blocks) RETURN_IF_ERROR(collector->Add(block, context));
  const double seconds = timer.seconds();
  const int64_t tokens = collector->profile().tokens;
  return nlohmann::json{{"seconds", seconds},
                        {"tokens", tokens},
                        {"tokens_per_second", static_cast<double>(tokens) / seconds}};
}

absl::StatusOr<nlohmann::json> TimeWrite(const std::string& folder, const std::string& out,
                                         int64_t max_shard_bytes, int64_t width) {
  ASSIGN_OR_RETURN(const auto base, ModelFolder::Open(folder));
  Mask mask;
  std::vector<int32_t> kept(static_cast<size_t>(width));
  for (size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<int32_t>(i);
  mask.kept.assign(static_cast<size_t>(base->config().num_layers), kept);
  ASSIGN_OR_RETURN(const auto source, MakeSlicedSource(base->config(), base->tensors(), mask));
  std::filesystem::remove_all(out);
  ASSIGN_OR_RETURN(const auto store, LocalStore::Open(out));
  RunContext context;
  const Timer timer;
  ASSIGN_OR_RETURN(
      const auto files,
      WriteWeights(*source, *store, "x/", {.max_shard_bytes = max_shard_bytes, .threads = kThreads},
                   context));
  const double seconds = timer.seconds();
  int64_t bytes = 0;
  std::vector<std::string> names;
  for (const ArtifactFile& file : files) {
    bytes += file.size;
    names.push_back(out + "/x/" + file.name);
  }
  return nlohmann::json{{"seconds", seconds}, {"bytes", bytes}, {"files", names}};
}

RelevanceView RandomView(int64_t layers, int64_t neurons, std::mt19937& random) {
  std::exponential_distribution<float> relevance(1.0F);
  RelevanceView view;
  view.documents = 256;
  view.tokens = 65536;
  view.half_share = 0.5;
  for (int64_t l = 0; l < layers; ++l) {
    RelevanceView::Layer layer;
    for (int64_t k = 0; k < neurons; ++k) {
      layer.relevance.push_back(relevance(random) / static_cast<float>(neurons));
      layer.half.push_back(layer.relevance.back() * std::min(relevance(random), 1.0F));
      layer.max_rank.push_back(static_cast<uint16_t>(random() % static_cast<uint64_t>(neurons)));
    }
    view.layers.push_back(std::move(layer));
  }
  return view;
}

// Reading one profile of this shape from the store, digest check and view included.
absl::StatusOr<double> TimeRead(int64_t layers, int64_t neurons, const std::string& folder) {
  std::filesystem::remove_all(folder);
  ASSIGN_OR_RETURN(const auto store, LocalStore::Open(folder));
  Metrics metrics("benchmark");
  ProfileStore profiles(*store, metrics);
  ASSIGN_OR_RETURN(Profile profile, Profile::Empty(layers, neurons, /*kv_head_groups=*/8));
  profile.documents = 1;
  profile.tokens = 256;
  ASSIGN_OR_RETURN(
      const ProfileInfo info,
      profiles.Put({.model = "benchmark", .compute_type = "float32", .device_kind = "cpu"},
                   profile));
  const Timer timer;
  ASSIGN_OR_RETURN(const Profile read, profiles.Read(info.id()));
  const RelevanceView view = ViewOf(read);
  const double seconds = timer.seconds();
  std::filesystem::remove_all(folder);
  return seconds;
}

absl::StatusOr<nlohmann::json> TimeCompose(int64_t layers, int64_t neurons,
                                           const std::string& folder) {
  std::mt19937 random(1);
  std::vector<RelevanceView> views;
  for (int i = 0; i < 3; ++i) views.push_back(RandomView(layers, neurons, random));
  std::vector<double> milliseconds;
  for (int run = 0; run < 11; ++run) {
    const double weight = 1.0 + 0.1 * run;  // never seen before
    const int64_t width = (neurons * (60 + run) / 100) / 64 * 64;
    const Timer timer;
    ASSIGN_OR_RETURN(
        const RemovalOrder order,
        Compose(Rule::kMean, {{&views[0], weight}, {&views[1], 1.0}, {&views[2], 1.0}}, kThreads));
    const Mask mask = SelectUniform(order, width, kThreads);
    const Digest digest = mask.digest();
    milliseconds.push_back(timer.seconds() * 1e3);
    if (digest == Digest{}) return absl::InternalError("no mask");
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::vector<double> halves_milliseconds, size_milliseconds;
  for (int run = 0; run < 5; ++run) {
    const Timer timer;
    ASSIGN_OR_RETURN(const auto halves,
                     Halves::Compose({{&views[0], 1.0}, {&views[1], 1.0}, {&views[2], 1.0}}));
    halves_milliseconds.push_back(timer.seconds() * 1e3);
    const Timer size_timer;
    if (halves->At(neurons * (60 + run) / 100).agreement > 1) return absl::InternalError("halves");
    size_milliseconds.push_back(size_timer.seconds() * 1e3);
  }
  std::sort(halves_milliseconds.begin(), halves_milliseconds.end());
  std::sort(size_milliseconds.begin(), size_milliseconds.end());
  ASSIGN_OR_RETURN(const double read, TimeRead(layers, neurons, folder));
  return nlohmann::json{{"median_ms", milliseconds[milliseconds.size() / 2]},
                        {"max_ms", milliseconds.back()},
                        {"halves_ms", halves_milliseconds[halves_milliseconds.size() / 2]},
                        {"halves_size_ms", size_milliseconds[size_milliseconds.size() / 2]},
                        {"read_profile_ms", read * 1e3}};
}

absl::StatusOr<nlohmann::json> Run(const std::string& line) {
  std::istringstream words(line);
  std::string command, first, second;
  int64_t a = 0, b = 0;
  words >> command;
  if (command == "profile" && words >> first >> second) return TimeProfile(first, second);
  if (command == "write" && words >> first >> second >> a >> b) {
    return TimeWrite(first, second, a, b);
  }
  if (command == "compose" && words >> a >> b >> first) return TimeCompose(a, b, first);
  return absl::InvalidArgumentError("not a command: " + line);
}

}  // namespace
}  // namespace secateur

int main() {
  secateur::SetComputeThreads(secateur::kThreads);
  for (std::string line; std::getline(std::cin, line);) {
    const auto result = secateur::Run(line);
    if (!result.ok()) {
      std::cerr << result.status().message() << "\n";
      return 1;
    }
    std::cout << result->dump() << std::endl;
  }
  return 0;
}
