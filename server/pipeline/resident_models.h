// The base models in memory: checked at once, loaded in the background, warmed up, ready.
//
// Thread-safe. A ResidentModel lives as long as somebody holds it; the set of models never changes
// after Start().
#pragma once

#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/digest.h"
#include "server/base/lru_cache.h"
#include "server/base/run_context.h"
#include "server/metrics/metrics.h"
#include "server/model/transformer.h"
#include "server/pipeline/base_digest.h"
#include "server/pipeline/device_lane.h"
#include "server/pipeline/vocabulary_planner.h"
#include "server/storage/blob_store.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

// What the smoke check (smoke_check.h) finds of the base on a selection's text: the same for each
// of the selection's experts.
struct BaseSmoke {
  double nats_per_token = 0;
  double repetition_rate = 0;
};

// A model that is ready.
class ResidentModel {
 public:
  // Loads and warms up. `digests` remembers the digest between starts (BaseDigests) and outlives
  // the model; null: it is computed.
  static absl::StatusOr<std::shared_ptr<ResidentModel>> Load(
      std::string name, std::shared_ptr<const ModelFolder> folder, const Device& device,
      RunContext& context, BlobStore* digests = nullptr);
  ~ResidentModel();

  const std::string& name() const { return name_; }
  const Transformer& transformer() const { return *transformer_; }
  const ModelConfig& config() const { return transformer_->config(); }
  const ModelFolder& folder() const { return transformer_->folder(); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Digest& tokenizer_digest() const { return tokenizer_digest_; }
  DeviceLane& lane() { return lane_; }
  // Locks for itself, so that it may remember what it worked out for a model that is const.
  VocabularyPlanner& vocabulary() const { return *vocabulary_; }
  LruCache<BaseSmoke>& smokes() { return smokes_; }  // by a digest of the text; each costs 1
  std::string compute_type() const;                  // "float32", "bfloat16"
  std::string device_kind() const;                   // "cpu", "cuda"

  // Over every file that an expert is made from; found on a thread of its own after loading.
  // UNAVAILABLE while it is being computed; the reason when it cannot be.
  absl::StatusOr<Digest> digest() const;
  // Until digest() will not say that it is being computed. CANCELLED after a cancel.
  absl::Status WaitForDigest(const RunContext& context) const;

 private:
  ResidentModel(std::string name, std::unique_ptr<Transformer> transformer,
                std::unique_ptr<Tokenizer> tokenizer, Digest tokenizer_digest, BlobStore* digests);

  const std::string name_;
  const std::unique_ptr<Transformer> transformer_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const Digest tokenizer_digest_;
  DeviceLane lane_;
  const std::unique_ptr<VocabularyPlanner> vocabulary_;
  LruCache<BaseSmoke> smokes_{256};
  RunContext digest_context_;
  std::shared_future<absl::StatusOr<Digest>> digest_;
};

struct ModelSource {
  std::string name;    // a slug
  std::string folder;  // Hugging Face folder
};

class ResidentModels {
 public:
  explicit ResidentModels(Metrics& metrics) : metrics_(metrics) {}
  ~ResidentModels();

  // Checks every folder (config, tensors, tokenizer) before it returns, then loads in the
  // background. `digests` remembers the models' digests and outlives every ResidentModel.
  absl::Status Start(const std::vector<ModelSource>& sources, const Device& device,
                     BlobStore& digests);
  // Waits for the loading to end; OK when all are ready, CANCELLED after StopLoading().
  absl::Status WaitUntilReady();
  // Models that are not ready yet will not be.
  void StopLoading() { load_context_.Cancel(); }
  bool ready() const;

  // NOT_FOUND naming the models there are; UNAVAILABLE while loading; the reason if loading failed.
  absl::StatusOr<std::shared_ptr<ResidentModel>> Get(const std::string& name) const;

  struct State {
    std::string name;
    std::shared_ptr<const ModelFolder> folder;
    std::shared_ptr<ResidentModel> model;  // null while loading
  };
  std::vector<State> List() const;  // sorted by name

 private:
  void LoadAll(const Device& device, BlobStore& digests);

  Metrics& metrics_;
  RunContext load_context_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, State> models_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread loader_;
};

}  // namespace secateur
