#include "server/pipeline/build_profile.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/corpus/packing.h"
#include "server/profile/collector.h"

namespace secateur {
namespace {

// Progress over several corpora. Tokens still to come are not known before they are counted, so the
// total is estimated from the bytes that each token covered so far.
class TokenProgress {
 public:
  TokenProgress(int64_t total_bytes, RunContext& context)
      : total_bytes_(total_bytes), context_(context) {}

  void Add(const TokenBlock& block, const SingleFlight::Hold& hold) {
    tokens_ += static_cast<int64_t>(block.ids.size());
    for (const int64_t bytes : block.text_bytes) bytes_ += bytes;
    const double ratio =
        bytes_ > 0 ? static_cast<double>(tokens_) / static_cast<double>(bytes_) : 1;
    const auto estimate = static_cast<int64_t>(ratio * static_cast<double>(total_bytes_));
    const Progress now{"profile", tokens_, std::max(estimate, tokens_), "tokens"};
    hold.Report(now);
    context_.Report(now);
  }
  // Text that is not run (cut off, or cached) counts as seen.
  void Finish(int64_t bytes_of_corpora) { bytes_ = std::max(bytes_, bytes_of_corpora); }

 private:
  const int64_t total_bytes_;
  RunContext& context_;
  int64_t tokens_ = 0, bytes_ = 0;
};

absl::StatusOr<Profile> RunCorpus(ResidentModel& model, const CorpusInfo& corpus,
                                  const ProfileSettings& settings, const CorpusStore& corpora,
                                  const SingleFlight::Hold& hold, TokenProgress& progress,
                                  RunContext& context) {
  ASSIGN_OR_RETURN(auto collector, ProfileCollector::Create(model.transformer(),
                                                            {.attention = settings.attention}));
  int64_t dropped = 0;
  Packer packer(model.tokenizer(), model.config().first_token_id,
                {.max_document_tokens = settings.max_document_tokens},
                [&](const TokenBlock& block) {
                  dropped += block.dropped_tokens;
                  RETURN_IF_ERROR(model.lane().Run(context, [&] {
                    return collector->Add({.ids = block.ids, .offsets = block.offsets}, context);
                  }));
                  progress.Add(block, hold);
                  return absl::OkStatus();
                });
  const absl::Status read =
      corpora.ForEachDocument(corpus.id(), [&](const Document& document) -> absl::Status {
        RETURN_IF_ERROR(context.CheckCancelled());
        return packer.Add(document);
      });
  RETURN_IF_ERROR(read);
  RETURN_IF_ERROR(packer.Finish());
  Profile profile = collector->profile();
  profile.dropped_tokens = dropped;
  return profile;
}

}  // namespace

absl::StatusOr<ProfileKey> ProfileKeyFor(const ResidentModel& model, const CorpusInfo& corpus,
                                         const ProfileSettings& settings) {
  ASSIGN_OR_RETURN(const Digest digest, model.digest());
  return ProfileKey{.model = model.name(),
                    .model_digest = digest,
                    .tokenizer_digest = model.tokenizer_digest(),
                    .corpus_digest = corpus.digest,
                    .max_document_tokens = settings.max_document_tokens,
                    .block_tokens = FramingSettings{}.block_tokens,
                    .framing_version = kFramingVersion,
                    .scoring_version = kScoringVersion,
                    .compute_type = model.compute_type(),
                    .device_kind = model.device_kind(),
                    .attention = settings.attention};
}

std::optional<ProfileInfo> FindProfile(const ProfileStore& profiles, ProfileKey key) {
  std::optional<ProfileInfo> found = profiles.Find(key.id());
  if (found || key.attention) return found;
  key.attention = true;
  return profiles.Find(key.id());
}

absl::StatusOr<BuiltProfiles> BuildProfiles(ResidentModel& model,
                                            const std::vector<CorpusInfo>& corpora,
                                            const ProfileSettings& settings, const Stores& stores,
                                            RunContext& context) {
  RETURN_IF_ERROR(model.WaitForDigest(context));
  int64_t total_bytes = 0;
  for (const CorpusInfo& corpus : corpora) {
    ASSIGN_OR_RETURN(const ProfileKey key, ProfileKeyFor(model, corpus, settings));
    if (!FindProfile(stores.profiles, key)) total_bytes += corpus.bytes;
  }
  TokenProgress progress(total_bytes, context);
  BuiltProfiles built;
  int64_t seen_bytes = 0;
  for (const CorpusInfo& corpus : corpora) {
    ASSIGN_OR_RETURN(const ProfileKey key, ProfileKeyFor(model, corpus, settings));
    ASSIGN_OR_RETURN(const auto hold, stores.single_flight.Acquire(key.id(), context));
    if (const auto cached = FindProfile(stores.profiles, key)) {
      ++built.cached;
      stores.metrics.profile_cache_hits.Increment();
      built.profiles.push_back(*cached);
      continue;
    }
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const Profile profile,
                     RunCorpus(model, corpus, settings, stores.corpora, hold, progress, context));
    seen_bytes += corpus.bytes;
    progress.Finish(seen_bytes);
    ASSIGN_OR_RETURN(ProfileInfo info, stores.profiles.Put(key, profile));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    stores.metrics.profile_tokens.Increment(static_cast<double>(profile.tokens));
    stores.metrics.profile_duration.Observe(seconds);
    Log(LogLevel::kInfo, "profile stored",
        {{"profile", info.id()},
         {"corpus", corpus.id()},
         {"documents", profile.documents},
         {"tokens", profile.tokens},
         {"seconds", seconds}});
    built.profiles.push_back(std::move(info));
  }
  return built;
}

}  // namespace secateur
