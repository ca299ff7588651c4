#include "server/service/needs.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "server/compensate/cost.h"
#include "server/corpus/packing.h"
#include "server/pipeline/compensation_text.h"
#include "server/pipeline/plan_expert.h"
#include "server/pipeline/resolve_sources.h"
#include "server/profile/top_ranks.h"
#include "server/service/expert_spec.h"
#include "server/service/find_model.h"
#include "server/service/names.h"
#include "server/service/submit.h"
#include "server/service/validate.h"
#include "server/storage/file_uri.h"

namespace secateur {
namespace {

// Readers, writers and what waits between them: parts of a few MiB, and 64 MiB of hidden states.
constexpr int64_t kBuffers = int64_t{128} << 20;
// Layers that generation keeps in memory (evaluate/generate).
constexpr int64_t kMostKept = int64_t{1} << 30;

// A forward pass of one block, and what waits around it.
int64_t BlockBytes(const ModelConfig& config) {
  return kBuffers + PassBytes(config, FramingSettings{}.block_tokens);
}

int64_t ProfileBytes(const ModelConfig& config, bool attention) {
  constexpr int64_t kRanks = kTopRanks * sizeof(uint16_t);
  constexpr int64_t kNeuron = 7 * sizeof(uint64_t) + sizeof(float) + kRanks;
  const int64_t units =
      attention ? (config.num_heads + 2 * config.num_kv_heads) * config.head_dim : int64_t{0};
  return config.num_layers * (config.intermediate_size * kNeuron + units * kRanks);
}

JobNeeds ProfileNeeds(const ModelConfig& config, bool attention) {
  const int64_t profile = ProfileBytes(config, attention);  // twice: sums, and one document's
  return {.memory_bytes = BlockBytes(config) + 2 * profile, .stored_bytes = profile};
}

// How many of `corpora` may have no such profile yet: all, as long as the model's digest is being
// found, for which nobody waits here.
int64_t NewProfiles(const JobParts& parts, const ResidentModel& model,
                    const std::vector<CorpusInfo>& corpora, const ProfileSettings& settings) {
  if (!model.digest().ok()) return std::ssize(corpora);
  return std::count_if(corpora.begin(), corpora.end(), [&](const CorpusInfo& corpus) {
    const absl::StatusOr<ProfileKey> key = ProfileKeyFor(model, corpus, settings);
    return !key.ok() || !FindProfile(parts.stores.profiles, *key);
  });
}

// Calibration corpora that a request for profiles means.
std::vector<CorpusInfo> CorporaOf(const JobParts& parts, const v1::CreateProfileRequest& request) {
  auto filter = ParseCorpusFilter(request.filter() == "*" ? "" : request.filter(), "filter");
  if (!filter.ok()) return {};
  filter->purpose = CorpusPurpose::kCalibration;
  std::vector<CorpusInfo> corpora = parts.stores.corpora.List(*filter);
  const std::set<std::string> named(request.corpora().begin(), request.corpora().end());
  std::erase_if(corpora, [&named](const CorpusInfo& corpus) {
    return !named.empty() && !named.contains(CorpusName(corpus.id()));
  });
  return corpora;
}

// Files of the store that work reads as files of this machine (LocalCopy).
int64_t LocalCopyBytes(const JobParts& parts, int64_t stored_bytes) {
  return UriScheme(parts.stores.blobs.uri()) == "file" ? 0 : stored_bytes;
}

JobNeeds OfProfile(const JobParts& parts, const v1::CreateProfileRequest& request) {
  const auto model = FindModel(parts, request.parent());
  if (!model.ok()) return {};
  JobNeeds needs = ProfileNeeds((*model)->config(), request.attention());
  needs.stored_bytes *= NewProfiles(parts, **model, CorporaOf(parts, request),
                                    ProfileSettingsOf(request, (*model)->config().max_positions));
  return needs;
}

JobNeeds OfExpert(const JobParts& parts, const v1::CreateExpertRequest& request) {
  const auto model = FindModel(parts, request.parent());
  if (!model.ok()) return {};
  const ModelConfig& config = (*model)->config();
  const auto expert =
      RequestFromProto(request.spec(), config.max_positions, /*budget_required=*/true);
  if (!expert.ok()) return {};
  const int64_t kept = std::min((*model)->transformer().resident_bytes(), kMostKept);
  const bool attention = expert->attention_channels || expert->kv_head_groups;
  JobNeeds needs = ProfileNeeds(config, attention);  // where profiles are missing
  needs.memory_bytes = std::max(needs.memory_bytes, BlockBytes(config) + kept);
  const auto sources = ResolveSources(*expert, parts.stores.corpora);
  needs.stored_bytes *=
      expert->neurons && sources.ok()
          ? NewProfiles(parts, **model, sources->corpora, ProfileSettingsOf(*expert))
          : 0;
  const int64_t most = BaseSize(**model).bytes;
  needs.stored_bytes += most;
  needs.temporary_bytes = LocalCopyBytes(parts, most);
  if (expert->compensation == Compensation::kNone) return needs;
  constexpr int64_t kTokens = kSelectionTokens + kGeneralTokens;
  const CompensationCost cost = CostOfCompensation(
      config, kTokens, kTokens / kHeldOutEvery,
      {.shape = expert->shape, .compensation = expert->compensation, .attention = attention});
  needs.memory_bytes = std::max(needs.memory_bytes, kBuffers + cost.memory_bytes);
  needs.temporary_bytes += cost.disk_bytes;
  return needs;
}

JobNeeds OfEvaluation(const JobParts& parts, const v1::EvaluateExpertRequest& request) {
  const auto name = ParseExpertName(request.name(), "name");
  if (!name.ok()) return {};
  const auto model = parts.models.Get(name->model);
  if (!model.ok()) return {};
  const int64_t layer = (*model)->transformer().resident_bytes() / (*model)->config().num_layers;
  const auto expert = parts.stores.experts.Find(name->id);
  return {.memory_bytes = BlockBytes((*model)->config()) + 2 * layer,
          .temporary_bytes = expert ? LocalCopyBytes(parts, expert->bytes()) : 0};
}

template <class Request>
JobNeeds Parsed(JobNeeds (*needs)(const JobParts&, const Request&), const JobParts& parts,
                const OperationRequest& operation) {
  Request request;
  return request.ParseFromString(operation.request) ? needs(parts, request) : JobNeeds();
}

}  // namespace

JobNeeds NeedsOf(const JobParts& parts, const OperationRequest& operation) {
  if (operation.method == "CreateProfile") return Parsed(&OfProfile, parts, operation);
  if (operation.method == "CreateExpert") return Parsed(&OfExpert, parts, operation);
  if (operation.method == "EvaluateExpert") return Parsed(&OfEvaluation, parts, operation);
  return {.memory_bytes = kBuffers};  // CreateCorpus
}

}  // namespace secateur
