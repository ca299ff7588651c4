#include "server/pipeline/resident_models.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr std::chrono::milliseconds kLookEvery(20);

absl::StatusOr<std::shared_ptr<const MappedFile>> OpenTokenizerFile(const ModelFolder& folder) {
  return MappedFile::Open(folder.path() + "/tokenizer.json");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const ModelFolder& folder) {
  ASSIGN_OR_RETURN(const auto file, OpenTokenizerFile(folder));
  auto tokenizer = Tokenizer::FromJson(file->bytes());
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file->path());
  return tokenizer;
}

// A first pass, so that lazy set-up of the libraries is not the first request's cost.
absl::Status WarmUp(const Transformer& transformer, RunContext& context) {
  PackedBatch batch{.ids = {static_cast<int32_t>(transformer.config().first_token_id)},
                    .offsets = {0, 1}};
  return transformer.Forward(batch, context).status();
}

}  // namespace

ResidentModel::ResidentModel(std::string name, std::unique_ptr<Transformer> transformer,
                             std::unique_ptr<Tokenizer> tokenizer, Digest tokenizer_digest,
                             BlobStore* digests)
    : name_(std::move(name)),
      transformer_(std::move(transformer)),
      tokenizer_(std::move(tokenizer)),
      tokenizer_digest_(tokenizer_digest),
      vocabulary_(std::make_unique<VocabularyPlanner>(*transformer_, *tokenizer_, lane_)),
      digest_(std::async(std::launch::async, [this, digests] {
                return digests == nullptr ? DigestOfFolder(folder(), digest_context_)
                                          : BaseDigests(*digests).Of(folder(), digest_context_);
              }).share()) {}

ResidentModel::~ResidentModel() {
  digest_context_.Cancel();
  digest_.wait();
}

absl::StatusOr<std::shared_ptr<ResidentModel>> ResidentModel::Load(
    std::string name, std::shared_ptr<const ModelFolder> folder, const Device& device,
    RunContext& context, BlobStore* digests) {
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(*folder));
  ASSIGN_OR_RETURN(const auto tokenizer_file, OpenTokenizerFile(*folder));
  ASSIGN_OR_RETURN(std::unique_ptr<Transformer> transformer,
                   Transformer::Load(std::move(folder), device, context));
  RETURN_IF_ERROR(WarmUp(*transformer, context));
  return std::shared_ptr<ResidentModel>(
      new ResidentModel(std::move(name), std::move(transformer), std::move(tokenizer),
                        Sha256Of(tokenizer_file->bytes()), digests));
}

std::string ResidentModel::compute_type() const {
  return device_kind() == "cpu" ? "float32" : "bfloat16";
}

std::string ResidentModel::device_kind() const {
  const std::string& device = transformer_->device().name;
  return device.substr(0, device.find(':'));
}

absl::StatusOr<Digest> ResidentModel::digest() const {
  if (digest_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) return digest_.get();
  return WithReason(
      WithRetryAfter(absl::UnavailableError(StrCat("the digest of models/", name_,
                                                   " is still being computed: try again")),
                     absl::Seconds(1)),
      "STARTING");
}

absl::Status ResidentModel::WaitForDigest(const RunContext& context) const {
  while (digest_.wait_for(kLookEvery) != std::future_status::ready) {
    RETURN_IF_ERROR(context.CheckCancelled());
  }
  return absl::OkStatus();
}

ResidentModels::~ResidentModels() {
  load_context_.Cancel();
  if (loader_.joinable()) loader_.join();
}

absl::Status ResidentModels::Start(const std::vector<ModelSource>& sources, const Device& device,
                                   BlobStore& digests) {
  for (const ModelSource& source : sources) {
    auto folder = ModelFolder::Open(source.folder);
    if (!folder.ok()) return Annotate(folder.status(), StrCat("--model ", source.name));
    auto tokenizer = OpenTokenizer(**folder);
    if (!tokenizer.ok()) return Annotate(tokenizer.status(), StrCat("--model ", source.name));
    MutexLock lock(mutex_);
    if (!models_.emplace(source.name, State{source.name, *std::move(folder), nullptr}).second) {
      return absl::InvalidArgumentError(
          StrCat("--model ", source.name, " is given twice: each model needs a name of its own"));
    }
  }
  loader_ = std::thread([this, device, &digests] { LoadAll(device, digests); });
  return absl::OkStatus();
}

void ResidentModels::LoadAll(const Device& device, BlobStore& digests) {
  for (const State& state : List()) {
    const absl::Time start = absl::Now();
    auto model = ResidentModel::Load(state.name, state.folder, device, load_context_, &digests);
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (!model.ok()) {
      MutexLock lock(mutex_);
      failure_ = Annotate(model.status(), StrCat("--model ", state.name));
      break;
    }
    metrics_.model_load_duration.Observe(seconds);
    metrics_.SetModelResidentBytes(state.name, (*model)->transformer().resident_bytes());
    Log(LogLevel::kInfo, "model ready",
        {{"model", state.name},
         {"family", state.folder->config().model_type},
         {"device", device.name},
         {"resident_bytes", (*model)->transformer().resident_bytes()},
         {"seconds", seconds}});
    MutexLock lock(mutex_);
    models_[state.name].model = *std::move(model);
  }
  MutexLock lock(mutex_);
  done_ = true;
  changed_.NotifyAll();
}

absl::Status ResidentModels::WaitUntilReady() {
  MutexLock lock(mutex_);
  while (!done_) changed_.Wait(mutex_);
  return failure_;
}

bool ResidentModels::ready() const {
  MutexLock lock(mutex_);
  return done_ && failure_.ok();
}

absl::StatusOr<std::shared_ptr<ResidentModel>> ResidentModels::Get(const std::string& name) const {
  MutexLock lock(mutex_);
  const auto found = models_.find(name);
  if (found == models_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, state] : models_) names.push_back(known);
    return WithResource(
        absl::NotFoundError(
            StrCat("models/", name, " is not served here; there is: ", absl::StrJoin(names, ", "))),
        "secateur.dev/Model", StrCat("models/", name));
  }
  if (found->second.model != nullptr) return found->second.model;
  // Of a server that stops while it loads, nobody needs to know more than that.
  if (!failure_.ok() && !absl::IsCancelled(failure_)) return failure_;
  return WithReason(WithRetryAfter(absl::UnavailableError(StrCat(
                                       "models/", name, " is still being loaded: try again")),
                                   absl::Seconds(1)),
                    "STARTING");
}

std::vector<ResidentModels::State> ResidentModels::List() const {
  MutexLock lock(mutex_);
  std::vector<State> states;
  for (const auto& [name, state] : models_) states.push_back(state);
  return states;
}

}  // namespace secateur
