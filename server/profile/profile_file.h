// A profile as a safetensors file: FORMAT.md. The same key and profile give the same bytes.
//
// Reading trusts nothing: the size is checked before memory is taken (a profile takes as much as
// its file), then every rule of FORMAT.md. Errors name the file, the entry or tensor, and what was
// found. INVALID_ARGUMENT: a rule is broken. UNIMPLEMENTED: another version of the format, or an
// element type we lack.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/format/tensor_writer.h"
#include "server/profile/profile.h"
#include "server/profile/profile_key.h"

namespace secateur {

inline constexpr int64_t kProfileFormatVersion = 4;
inline constexpr int64_t kProfileHeaderLimit = 64 << 10;  // bytes, without the length before it

// What the header says.
struct ProfileSummary {
  ProfileKey key;
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t dropped_tokens = 0;
  int64_t half_documents = 0;
  int64_t layers = 0;
  int64_t neurons = 0;         // of one layer
  int64_t kv_head_groups = 0;  // of one layer
  AttentionHeads heads;        // all 0 unless the key says attention
};

// INVALID_ARGUMENT when the profile has no documents or the result could not be read back.
absl::Status WriteProfile(const ProfileKey& key, const Profile& profile, const ByteSink& sink);

// From the beginning of a file of `file_size` bytes: 8 + kProfileHeaderLimit bytes, or all if it
// has fewer. Says nothing about the tensors but their total size.
absl::StatusOr<ProfileSummary> ReadProfileSummary(const std::string& name,
                                                  std::string_view beginning, int64_t file_size);

struct ProfileFile {
  ProfileKey key;
  Profile profile;
};
// From a whole file; `name` stands in for its path in errors.
absl::StatusOr<ProfileFile> ReadProfile(const std::string& name, std::string bytes);

}  // namespace secateur
