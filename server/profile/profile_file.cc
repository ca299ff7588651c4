#include "server/profile/profile_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/safetensors_reader.h"
#include "server/format/safetensors_writer.h"
#include "server/profile/attention_file.h"
#include "server/profile/profile_metadata.h"
#include "server/profile/top_ranks.h"

namespace secateur {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are copied as they are");

constexpr int64_t kLengthBytes = 8;
// FORMAT.md "Tensors", column "allowed", for one document.
constexpr uint64_t kShareLimit = uint64_t{1} << 40;
constexpr uint64_t kLogLimit = uint64_t{1} << 27;
constexpr uint64_t kActivationSumLimit = uint64_t{1} << 41;

// `Member`: std::vector<T> for values of each unit, T for one value a layer.
template <class T, class Member = std::vector<T>>
struct Field {
  std::string_view name;
  DType dtype;
  Member LayerStatistics::* values;
  int64_t per_unit = 1;
  int64_t ProfileSummary::* units = &ProfileSummary::neurons;

  TensorSpec Spec(const ProfileSummary& summary) const {
    TensorSpec spec{.name = std::string(name), .dtype = dtype, .shape = {summary.layers}};
    if (std::is_same_v<Member, std::vector<T>>) spec.shape.push_back(summary.*units);
    if (per_unit > 1) spec.shape.push_back(per_unit);
    return spec;
  }
  // `Layer` is LayerStatistics or const.
  template <class Layer>
  auto Of(Layer& layer) const {
    if constexpr (std::is_same_v<Member, T>) {
      return std::span(&(layer.*values), 1);
    } else {
      return std::span(layer.*values);
    }
  }
};

// Calls `visit` with the Field of each tensor, in the order of the file; its first error ends it.
template <class Visit>
absl::Status ForEachField(const Visit& visit) {
  using S = LayerStatistics;
  RETURN_IF_ERROR(visit(Field<uint64_t>{"normalized", DType::kU64, &S::normalized}));
  RETURN_IF_ERROR(visit(Field<uint64_t>{"paper_normalized", DType::kU64, &S::paper_normalized}));
  RETURN_IF_ERROR(visit(Field<uint64_t>{"score", DType::kU64, &S::score}));
  RETURN_IF_ERROR(visit(Field<int64_t>{"log_score", DType::kI64, &S::log_score}));
  RETURN_IF_ERROR(visit(Field<uint64_t>{"rank", DType::kU64, &S::rank}));
  RETURN_IF_ERROR(visit(Field<int64_t>{"activation", DType::kI64, &S::activation}));
  RETURN_IF_ERROR(visit(Field<float>{"peak", DType::kF32, &S::peak}));
  RETURN_IF_ERROR(visit(Field<uint16_t>{"top_ranks", DType::kU16, &S::top_ranks, kTopRanks}));
  RETURN_IF_ERROR(visit(Field<uint64_t>{"half_normalized", DType::kU64, &S::half_normalized}));
  RETURN_IF_ERROR(visit(Field<float, float>{"residual_peak", DType::kF32, &S::residual_peak}));
  return visit(Field<uint64_t>{.name = "group_score",
                               .dtype = DType::kU64,
                               .values = &S::group_score,
                               .units = &ProfileSummary::kv_head_groups});
}

std::vector<TensorSpec> Specs(const ProfileSummary& summary) {
  std::vector<TensorSpec> specs;
  const absl::Status visited = ForEachField([&](const auto& field) {
    specs.push_back(field.Spec(summary));
    return absl::OkStatus();
  });
  for (TensorSpec& spec : AttentionSpecs(summary.layers, summary.heads)) {
    specs.push_back(std::move(spec));
  }
  return specs;
}

int64_t TensorBytes(const ProfileSummary& summary) {
  int64_t bytes = 0;
  for (const TensorSpec& spec : Specs(summary)) bytes += ByteSize(spec);
  return bytes;
}

absl::Status NotAllowed(std::string_view tensor, size_t layer, size_t channel,
                        const absl::AlphaNum& found, const absl::AlphaNum& allowed) {
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", ToAbsl(tensor), "\", layer ", layer,
                                                 ", channel ", channel, ": ", found.Piece(),
                                                 " is not allowed; expected ", allowed.Piece()));
}

absl::Status CheckSum(std::string_view tensor, size_t layer, const std::vector<uint64_t>& sums,
                      uint64_t most) {
  for (size_t k = 0; k < sums.size(); ++k) {
    if (sums[k] > most) return NotAllowed(tensor, layer, k, sums[k], StrCat("at most ", most));
  }
  return absl::OkStatus();
}

absl::Status CheckMagnitude(std::string_view tensor, size_t layer, const std::vector<int64_t>& sums,
                            uint64_t most) {
  const auto limit = static_cast<int64_t>(most);
  for (size_t k = 0; k < sums.size(); ++k) {
    if (sums[k] < -limit || sums[k] > limit) {
      return NotAllowed(tensor, layer, k, sums[k], StrCat("a magnitude of at most ", most));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPeaks(size_t layer, const std::vector<float>& peaks) {
  for (size_t k = 0; k < peaks.size(); ++k) {
    if (!std::isfinite(peaks[k]) || peaks[k] < 0) {
      return NotAllowed("peak", layer, k, peaks[k], "a finite number that is not negative");
    }
  }
  return absl::OkStatus();
}

// The rest of `normalized` is the other half's, and is bound as this half is.
absl::Status CheckHalf(size_t layer, uint64_t half_documents, uint64_t documents,
                       const LayerStatistics& statistics) {
  for (size_t k = 0; k < statistics.half_normalized.size(); ++k) {
    const uint64_t half = statistics.half_normalized[k];
    const uint64_t all = statistics.normalized[k];
    if (half > all || half > half_documents * kShareLimit ||
        all - half > (documents - half_documents) * kShareLimit) {
      return NotAllowed("half_normalized", layer, k, half,
                        StrCat("the part of ", all, " that ", half_documents, " of ", documents,
                               " documents can give"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResidualPeak(size_t layer, float peak) {
  if (std::isfinite(peak) && peak >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("tensor \"residual_peak\", layer ", layer, ": ", peak,
             " is not allowed; expected a finite number that is not negative"));
}

// What no sequence of AddDocument and Merge can make, and what would make later sums overflow.
absl::Status CheckValues(const Profile& profile) {
  const auto documents = static_cast<uint64_t>(profile.documents);
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    const LayerStatistics& layer = profile.layers[l];
    const uint64_t last = layer.rank.size() - 1;
    RETURN_IF_ERROR(CheckSum("normalized", l, layer.normalized, documents * kShareLimit));
    RETURN_IF_ERROR(
        CheckSum("paper_normalized", l, layer.paper_normalized, documents * kShareLimit));
    RETURN_IF_ERROR(CheckMagnitude("log_score", l, layer.log_score, documents * kLogLimit));
    RETURN_IF_ERROR(CheckSum("rank", l, layer.rank, documents * last));
    RETURN_IF_ERROR(
        CheckMagnitude("activation", l, layer.activation, documents * kActivationSumLimit));
    RETURN_IF_ERROR(CheckPeaks(l, layer.peak));
    RETURN_IF_ERROR(CheckTopRanks(StrCat("tensor \"top_ranks\", layer ", l), layer.top_ranks,
                                  profile.documents));
    RETURN_IF_ERROR(CheckHalf(l, static_cast<uint64_t>(profile.half_documents), documents, layer));
    RETURN_IF_ERROR(CheckResidualPeak(l, layer.residual_peak));
  }
  return CheckAttention(profile.attention, profile.documents);
}

absl::Status CheckSize(const ProfileSummary& summary, int64_t header_bytes, int64_t file_size) {
  const int64_t expected = kLengthBytes + header_bytes + TensorBytes(summary);
  if (file_size == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the file has ", file_size, " bytes; ", summary.layers, " layers of ", summary.neurons,
             " neurons and ", summary.kv_head_groups, " KV head groups take ", expected));
}

// The JSON between the length and the tensors.
absl::StatusOr<std::string_view> HeaderText(std::string_view beginning) {
  uint64_t length = 0;
  if (beginning.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        StrCat("the file has ", beginning.size(), " bytes, too few for a header"));
  }
  std::memcpy(&length, beginning.data(), kLengthBytes);
  if (length > kProfileHeaderLimit || length > beginning.size() - kLengthBytes) {
    return absl::InvalidArgumentError(StrCat("the header claims ", length, " bytes; the file has ",
                                             beginning.size() - kLengthBytes, " and at most ",
                                             kProfileHeaderLimit, " are allowed"));
  }
  return beginning.substr(kLengthBytes, length);
}

absl::StatusOr<ProfileMetadata> MetadataOf(std::string_view header) {
  const auto json = nlohmann::json::parse(header, nullptr, /*allow_exceptions=*/false);
  const auto found = json.is_object() ? json.find("__metadata__") : json.end();
  if (found == json.end() || !found->is_object()) {
    return absl::InvalidArgumentError("the header is not a JSON object with \"__metadata__\"");
  }
  ProfileMetadata metadata;
  for (const auto& [name, value] : found->items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(StrCat("metadata ", Quoted(name), " is not a string"));
    }
    metadata[name] = value.get<std::string>();
  }
  return metadata;
}

absl::StatusOr<ProfileSummary> Summarize(std::string_view beginning, int64_t file_size) {
  ASSIGN_OR_RETURN(const std::string_view header, HeaderText(beginning));
  ASSIGN_OR_RETURN(const ProfileMetadata metadata, MetadataOf(header));
  ASSIGN_OR_RETURN(ProfileSummary summary, FromMetadata(metadata));
  RETURN_IF_ERROR(CheckSize(summary, static_cast<int64_t>(header.size()), file_size));
  return summary;
}

absl::Status CheckSpec(const TensorSpec& spec, const TensorView& view) {
  if (view.dtype == spec.dtype && view.shape == spec.shape) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("tensor \"", spec.name, "\" is ", DTypeName(view.dtype),
                                           " of shape [", absl::StrJoin(view.shape, ", "),
                                           "]; expected ", DTypeName(spec.dtype), " of shape [",
                                           absl::StrJoin(spec.shape, ", "), "]"));
}

absl::Status CheckNames(const SafetensorsReader& reader, const std::vector<TensorSpec>& specs) {
  std::set<std::string> expected;
  for (const TensorSpec& spec : specs) expected.insert(spec.name);
  for (const auto& entry : reader.tensors()) {
    if (expected.erase(entry.first) == 0) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(entry.first), " is not known"));
    }
  }
  if (expected.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("tensor \"", *expected.begin(), "\" is missing"));
}

template <class T, class Member>
absl::Status ReadField(const SafetensorsReader& reader, const Field<T, Member>& field,
                       const ProfileSummary& summary, Profile& profile) {
  const TensorSpec spec = field.Spec(summary);
  ASSIGN_OR_RETURN(const TensorView view, reader.Find(spec.name));
  RETURN_IF_ERROR(CheckSpec(spec, view));
  const char* next = view.bytes.data();
  for (LayerStatistics& layer : profile.layers) {
    const std::span<T> values = field.Of(layer);
    std::memcpy(values.data(), next, values.size_bytes());
    next += values.size_bytes();
  }
  return absl::OkStatus();
}

absl::StatusOr<Profile> ReadTensors(const SafetensorsReader& reader,
                                    const ProfileSummary& summary) {
  RETURN_IF_ERROR(CheckNames(reader, Specs(summary)));
  ASSIGN_OR_RETURN(Profile profile,
                   Profile::Empty(summary.layers, summary.neurons, summary.kv_head_groups));
  profile.documents = summary.documents;
  profile.tokens = summary.tokens;
  profile.dropped_tokens = summary.dropped_tokens;
  profile.half_documents = summary.half_documents;
  RETURN_IF_ERROR(
      ForEachField([&](const auto& field) { return ReadField(reader, field, summary, profile); }));
  ASSIGN_OR_RETURN(profile.attention, ReadAttention(reader, summary.layers, summary.heads));
  RETURN_IF_ERROR(CheckValues(profile));
  return profile;
}

absl::Status WriteTensors(const Profile& profile, TensorWriter& writer) {
  const absl::Status neurons = ForEachField([&](const auto& field) -> absl::Status {
    for (const LayerStatistics& layer : profile.layers) {
      const auto values = field.Of(layer);
      RETURN_IF_ERROR(
          writer.Write({reinterpret_cast<const char*>(values.data()), values.size_bytes()}));
    }
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(neurons);
  return WriteAttention(profile.attention, writer);
}

}  // namespace

absl::Status WriteProfile(const ProfileKey& key, const Profile& profile, const ByteSink& sink) {
  const ProfileSummary summary{.key = key,
                               .documents = profile.documents,
                               .tokens = profile.tokens,
                               .dropped_tokens = profile.dropped_tokens,
                               .half_documents = profile.half_documents,
                               .layers = static_cast<int64_t>(profile.layers.size()),
                               .neurons = profile.intermediate_size(),
                               .kv_head_groups = profile.kv_head_groups(),
                               .heads = profile.attention.heads};
  if (key.attention == profile.attention.empty()) {
    return absl::InvalidArgumentError(
        StrCat("a profile ", key.attention ? "without" : "with",
               " statistics of attention under a key that says the opposite"));
  }
  const ProfileMetadata metadata = ToMetadata(summary);
  RETURN_IF_ERROR(FromMetadata(metadata).status());
  RETURN_IF_ERROR(CheckValues(profile));
  SafetensorsWriter writer(sink);
  RETURN_IF_ERROR(writer.Begin(Specs(summary), metadata));
  RETURN_IF_ERROR(WriteTensors(profile, writer));
  return writer.Finish();
}

absl::StatusOr<ProfileSummary> ReadProfileSummary(const std::string& name,
                                                  std::string_view beginning, int64_t file_size) {
  absl::StatusOr<ProfileSummary> summary = Summarize(beginning, file_size);
  if (!summary.ok()) return Annotate(summary.status(), name);
  return summary;
}

absl::StatusOr<ProfileFile> ReadProfile(const std::string& name, std::string bytes) {
  ASSIGN_OR_RETURN(ProfileSummary summary,
                   ReadProfileSummary(name, bytes, static_cast<int64_t>(bytes.size())));
  ASSIGN_OR_RETURN(const SafetensorsReader reader,
                   SafetensorsReader::FromBytes(name, std::move(bytes)));
  absl::StatusOr<Profile> profile = ReadTensors(reader, summary);
  if (!profile.ok()) return Annotate(profile.status(), name);
  return ProfileFile{.key = std::move(summary.key), .profile = std::move(*profile)};
}

}  // namespace secateur
