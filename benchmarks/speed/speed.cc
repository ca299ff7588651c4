// The parts of `benchmarks/speed/run` that time the server's own code without RPC. Reads one
// command a line, does it once, and prints one JSON object a line; the driver takes turns with the
// peers.
//
//   profile MODEL_FOLDER IDS_FILE   IDS_FILE: one document a line, token ids separated by spaces
//   write MODEL_FOLDER OUT_FOLDER MAX_SHARD_BYTES WIDTH
//   compose LAYERS NEURONS FOLDER   three dimensions; FOLDER is where profiles are stored and read
//   compensate MODEL_FOLDER IDS_FILE WIDTH   least squares for the first WIDTH neurons of each
//   layer
//   upload URI BYTES                random bytes, in pieces of 1 MiB, to a new object of a store
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <sstream>

#include <ATen/ATen.h>

#include "server/artifact/hf_layout.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/compensate/compensate.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/least_squares.h"
#include "server/mask/compose.h"
#include "server/mask/convergence.h"
#include "server/model/compute_threads.h"
#include "server/model/torch_guard.h"
#include "server/model/transformer.h"
#include "server/object_storage/arrow_store.h"
#include "server/object_storage/open_store.h"
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

using Documents = std::vector<std::vector<int32_t>>;

Documents ReadDocuments(const std::string& path) {
  Documents documents;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    documents.push_back({std::istream_iterator<int32_t>(numbers), {}});
  }
  return documents;
}

// Packed as the server packs them.
std::vector<PackedBatch> Pack(const Documents& documents) {
  std::vector<PackedBatch> blocks;
  for (const std::vector<int32_t>& ids : documents) {
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
  const std::vector<PackedBatch> blocks = Pack(ReadDocuments(ids));
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

std::vector<WeightedBatch> Weighted(const Documents& documents) {
  std::vector<WeightedBatch> batches;
  for (PackedBatch& block : Pack(documents)) {
    const auto tokens = static_cast<size_t>(block.tokens());
    batches.push_back({std::move(block), std::vector<float>(tokens, 1e-4F)});
  }
  return batches;
}

Mask FirstNeurons(const ModelConfig& config, int64_t width) {
  std::vector<int32_t> kept(static_cast<size_t>(width));
  std::iota(kept.begin(), kept.end(), 0);
  Mask mask;
  mask.kept.assign(static_cast<size_t>(config.num_layers), kept);
  return mask;
}

// The systems that Compensate() solves, and nothing else of it.
absl::Status SolveAll(const Transformer& model, const MeasuredText& measured, const Mask& mask) {
  RunContext context;
  for (int64_t layer = 0; layer < model.config().num_layers; ++layer) {
    const auto solve = [&]() -> absl::Status {
      const at::Tensor down = GainedDown(model, layer);
      const at::Tensor kept = IndexOf(mask.kept[static_cast<size_t>(layer)], down.device());
      const Gram gram = measured.Calibration(layer);
      RETURN_IF_ERROR(
          ChooseRidge(down, gram, measured.HeldOut(layer), kept, kept, context).status());
      for (int i = 0; i < 2; ++i) {  // to be judged, and with all text
        SolveLeastSquares(down, gram.moments, kept, kUntunedRidge * gram.ordinary_diagonal);
      }
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(GuardTorch(solve));
  }
  return absl::OkStatus();
}

// Least squares of one width against the bare forward pass over the same documents.
absl::StatusOr<nlohmann::json> TimeCompensation(const std::string& folder, const std::string& ids,
                                                int64_t width) {
  ASSIGN_OR_RETURN(const Transformer* model, LoadOnce(folder));
  const Documents all = ReadDocuments(ids);
  Documents learn, judge;
  for (size_t i = 0; i < all.size(); ++i) (i % 5 == 4 ? judge : learn).push_back(all[i]);
  RunContext context;
  const Timer forward;
  for (const PackedBatch& block : Pack(all)) {
    RETURN_IF_ERROR(model->Forward(block, context).status());
  }
  const double forward_seconds = forward.seconds();
  const Timer measure;
  ASSIGN_OR_RETURN(const auto measured,
                   MeasuredText::Measure(*model, {Weighted(learn), Weighted(judge)}, {}, context));
  const double measure_seconds = measure.seconds();
  const Mask mask = FirstNeurons(model->config(), width);
  const Timer compensate;
  RETURN_IF_ERROR(Compensate(*model, *measured, {.plain = &mask}, context).status());
  const double compensate_seconds = compensate.seconds();
  const Timer solve;
  RETURN_IF_ERROR(SolveAll(*model, *measured, mask));
  return nlohmann::json{{"documents", all.size()},
                        {"tokens", measured->text().tokens()},
                        {"forward_seconds", forward_seconds},
                        {"measure_seconds", measure_seconds},
                        {"compensate_seconds", compensate_seconds},
                        {"solve_seconds", solve.seconds()}};
}

absl::StatusOr<nlohmann::json> TimeWrite(const std::string& folder, const std::string& out,
                                         int64_t max_shard_bytes, int64_t width) {
  ASSIGN_OR_RETURN(const auto base, ModelFolder::Open(folder));
  const Mask mask = FirstNeurons(base->config(), width);
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

// Hashed on the way and checked at the end, as everything that is stored.
absl::StatusOr<nlohmann::json> TimeUpload(const std::string& uri, int64_t bytes) {
  static int objects = 0;
  constexpr size_t kPiece = size_t{1} << 20;
  std::mt19937_64 random(1);
  std::string data(static_cast<size_t>(bytes), '\0');
  for (char& byte : data) byte = static_cast<char>(random());
  ASSIGN_OR_RETURN(const auto store, OpenStore(uri));
  const Timer timer;
  ASSIGN_OR_RETURN(const auto writer, store->Create("upload/" + std::to_string(++objects)));
  for (size_t at = 0; at < data.size(); at += kPiece) {
    RETURN_IF_ERROR(writer->Append(std::string_view(data).substr(at, kPiece)));
  }
  RETURN_IF_ERROR(writer->Commit().status());
  return nlohmann::json{{"seconds", timer.seconds()}};
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
  if (command == "compensate" && words >> first >> second >> a) {
    return TimeCompensation(first, second, a);
  }
  if (command == "upload" && words >> first >> a) return TimeUpload(first, a);
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
  secateur::FinalizeObjectStorage();
  return 0;
}
