// The story of a profile: is it there? else read the corpus, pack it, run it, store it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

// What a profile is to be like.
struct ProfileSettings {
  int64_t max_document_tokens = 512;
  bool attention = false;  // statistics of attention as well
};

// What names the profile of `corpus` on `model`. UNAVAILABLE while the model's digest is
// being computed.
absl::StatusOr<ProfileKey> ProfileKeyFor(const ResidentModel& model, const CorpusInfo& corpus,
                                         const ProfileSettings& settings);

// The profile of `key`; without attention also one that has it, for its neurons are the same.
std::optional<ProfileInfo> FindProfile(const ProfileStore& profiles, ProfileKey key);

struct BuiltProfiles {
  std::vector<ProfileInfo> profiles;  // in the order of `corpora`
  int64_t cached = 0;                 // how many were there already
};

// INVALID_ARGUMENT for a document the model cannot take, DATA_LOSS for stored documents that do not
// match their digest. Reports "profile" in tokens (an estimate of the total from the text's bytes
// first); stops within one block after a cancel and leaves nothing half-made.
absl::StatusOr<BuiltProfiles> BuildProfiles(ResidentModel& model,
                                            const std::vector<CorpusInfo>& corpora,
                                            const ProfileSettings& settings, const Stores& stores,
                                            RunContext& context);

}  // namespace secateur
