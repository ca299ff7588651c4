#include "server/profile/profile_file.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <map>

#include "server/format/safetensors_reader.h"
#include "server/format/safetensors_writer.h"
#include "tests/profile/random_profile.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kLayers = 2;
constexpr int64_t kChannels = 7;
constexpr int64_t kDocuments = 5;

Profile AnyProfile() {
  return ProfileOf(MakeDocuments(kDocuments, kLayers, kChannels, 4), kLayers, kChannels);
}

// A file taken apart, to be put together again with a fault.
struct Parts {
  std::map<std::string, std::string> metadata;
  std::vector<std::pair<TensorSpec, std::string>> tensors;

  std::string Assemble() const {
    std::string bytes;
    SafetensorsWriter writer([&bytes](std::string_view part) {
      bytes.append(part);
      return absl::OkStatus();
    });
    std::vector<TensorSpec> specs;
    for (const auto& tensor : tensors) specs.push_back(tensor.first);
    EXPECT_OK(writer.Begin(specs, metadata));
    for (const auto& tensor : tensors) EXPECT_OK(writer.Write(tensor.second));
    EXPECT_OK(writer.Finish());
    return bytes;
  }
  std::pair<TensorSpec, std::string>& Tensor(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&name](const auto& tensor) { return tensor.first.name == name; });
  }
  template <class T>
  void Set(const std::string& name, size_t index, T value) {
    std::memcpy(Tensor(name).second.data() + index * sizeof(T), &value, sizeof(T));
  }
};

Parts TakeApart(const std::string& bytes) {
  const SafetensorsReader reader = SafetensorsReader::FromBytes("file", bytes).value();
  Parts parts{.metadata = reader.metadata(), .tensors = {}};
  for (const char* name :
       {"normalized", "paper_normalized", "score", "log_score", "rank", "activation", "peak",
        "top_ranks", "half_normalized", "residual_peak", "group_score"}) {
    const TensorView view = reader.Find(name).value();
    parts.tensors.push_back(
        {{.name = name, .dtype = view.dtype, .shape = view.shape}, std::string(view.bytes)});
  }
  return parts;
}

absl::Status ReadBoth(const std::string& bytes) {
  const absl::Status summary =
      ReadProfileSummary("x.safetensors", bytes, static_cast<int64_t>(bytes.size())).status();
  const absl::Status whole = ReadProfile("x.safetensors", bytes).status();
  if (!summary.ok()) {
    EXPECT_EQ(summary, whole);
  }
  return whole;
}

TEST(ProfileFile, ComesBackAsItWas) {
  const Profile profile = AnyProfile();
  const ProfileKey key = AnyKey();
  const std::string bytes = FileOf(profile, key);
  ASSERT_OK_AND_ASSIGN(const ProfileFile file, ReadProfile("x", bytes));
  EXPECT_TRUE(file.profile == profile);
  EXPECT_EQ(file.key.model, key.model);
  EXPECT_EQ(file.key.digest(), key.digest());
  EXPECT_EQ(FileOf(file.profile, file.key), bytes);
}

TEST(ProfileFile, TellsItsSummaryFromTheHeaderAlone) {
  const std::string bytes = FileOf(AnyProfile());
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  ASSERT_OK_AND_ASSIGN(const ProfileSummary summary,
                       ReadProfileSummary("x", std::string_view(bytes).substr(0, 8 + header),
                                          static_cast<int64_t>(bytes.size())));
  EXPECT_EQ(summary.key.id(), AnyKey().id());
  EXPECT_EQ(summary.documents, kDocuments);
  EXPECT_EQ(summary.tokens, 10 * kDocuments);
  EXPECT_EQ(summary.dropped_tokens, kDocuments);
  EXPECT_EQ(summary.layers, kLayers);
  EXPECT_EQ(summary.neurons, kChannels);
  EXPECT_EQ(summary.kv_head_groups, kGroups);
}

TEST(ProfileFile, TakesTheBytesThatFormatPageSays) {
  const std::string bytes = FileOf(AnyProfile());
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  EXPECT_EQ(bytes.size(), 8 + header + kLayers * (124 * kChannels + 4 + 8 * kGroups));
}

TEST(ProfileFile, RefusesEveryTruncation) {
  const std::string bytes = FileOf(AnyProfile());
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(ReadBoth(bytes.substr(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("x.safetensors")))
        << size;
  }
  EXPECT_THAT(ReadBoth(bytes + '\0'),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(absl::StrCat("has ", bytes.size() + 1, " bytes"))));
}

TEST(ProfileFile, NeverCrashesOnAFlippedByteOfTheHeader) {
  const Profile profile = AnyProfile();
  const std::string bytes = FileOf(profile);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  int refused = 0;
  for (size_t i = 0; i < 8 + header; ++i) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    const absl::StatusOr<ProfileFile> file = ReadProfile("x", flipped);
    refused += !file.ok();
    // What gets through changed text of the key or a count, never the statistics.
    if (file.ok()) {
      EXPECT_EQ(file->profile.layers[1].top_ranks, profile.layers[1].top_ranks);
    }
  }
  EXPECT_GT(refused, static_cast<int>(header) / 2);
}

TEST(ProfileFile, RefusesAnotherFormatAsUnimplemented) {
  for (const char* version : {"1", "2", "3", "5"}) {
    Parts parts = TakeApart(FileOf(AnyProfile()));
    parts.metadata["format_version"] = version;
    parts.metadata["what_is_different"] = "1";
    EXPECT_THAT(ReadBoth(parts.Assemble()),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr("x.safetensors"),
                               HasSubstr(absl::StrCat("\"format_version\" is ", version)))));
  }
}

TEST(ProfileFile, RefusesMetadataThatBreaksARuleAndNamesIt) {
  const Parts good = TakeApart(FileOf(AnyProfile()));
  for (const auto& entry : good.metadata) {
    Parts parts = good;
    parts.metadata.erase(entry.first);
    EXPECT_THAT(ReadBoth(parts.Assemble()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("\"", entry.first, "\" is missing"))));
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"format", "secateur.expert"},
      {"format_version", "0"},
      {"format_version", "one"},
      {"model", ""},
      {"model", std::string(257, 'm')},
      {"model_digest", "abc"},
      {"corpus_digest", std::string(64, 'A')},
      {"tokenizer_digest", std::string(64, 'g')},
      {"max_document_tokens", "-1"},
      {"block_tokens", "+1"},
      {"framing_version", " 1"},
      {"scoring_version", "01"},
      {"compute_type", ""},
      {"documents", "0"},
      {"documents", "2097153"},
      {"documents", "99999999999999999999"},
      {"tokens", "4"},
      {"dropped_tokens", "-3"},
      {"half_documents", "-1"},
      {"half_documents", "6"},
      {"layers", "0"},
      {"layers", "65537"},
      {"neurons", "65537"},
      {"kv_head_groups", "0"},
      {"kv_head_groups", "65537"},
  };
  for (const auto& [name, value] : cases) {
    Parts parts = good;
    parts.metadata[name] = value;
    EXPECT_THAT(ReadBoth(parts.Assemble()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("\"", name, "\" is \""))))
        << value;
  }
  Parts parts = good;
  parts.metadata["surprise"] = "x";
  EXPECT_THAT(ReadBoth(parts.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"surprise\" is not known")));
}

TEST(ProfileFile, ChecksTheSizeBeforeItTakesMemory) {
  Parts parts = TakeApart(FileOf(AnyProfile()));
  parts.metadata["layers"] = "65536";
  parts.metadata["neurons"] = "65536";  // half a terabyte
  EXPECT_THAT(ReadBoth(parts.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("65536 layers of 65536 neurons and 3 KV head groups take 53257")));
}

TEST(ProfileFile, RefusesAHeaderPastTheLimit) {
  Parts parts = TakeApart(FileOf(AnyProfile()));
  parts.metadata["surprise"] = std::string(kProfileHeaderLimit, 'x');
  EXPECT_THAT(ReadBoth(parts.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 65536")));
}

TEST(ProfileFile, RefusesTensorsOfAnotherKind) {
  const Parts good = TakeApart(FileOf(AnyProfile()));
  Parts other_type = good;
  other_type.Tensor("score").first.dtype = DType::kI64;
  EXPECT_THAT(ReadBoth(other_type.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"score\" is I64"), HasSubstr("expected U64"))));
  Parts other_shape = good;
  other_shape.Tensor("rank").first.shape = {kChannels, kLayers};
  EXPECT_THAT(ReadBoth(other_shape.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"rank\""), HasSubstr("[7, 2]"), HasSubstr("[2, 7]"))));
  Parts turned = good;
  turned.Tensor("group_score").first.shape = {kGroups, kLayers};
  EXPECT_THAT(
      ReadBoth(turned.Assemble()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("\"group_score\""), HasSubstr("expected U64 of shape [2, 3]"))));
  Parts renamed = good;
  renamed.Tensor("peak").first.name = "peek";
  EXPECT_THAT(ReadBoth(renamed.Assemble()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"peek\" is not known")));
  Parts without = good;  // its bytes go into another tensor, so that the size is right
  without.tensors.erase(without.tensors.begin() + 1);
  without.tensors[0].first.shape = {2 * kLayers, kChannels};
  without.tensors[0].second.resize(without.tensors[0].second.size() * 2);
  EXPECT_THAT(ReadBoth(without.Assemble()), StatusIs(absl::StatusCode::kInvalidArgument,
                                                     HasSubstr("\"paper_normalized\" is missing")));
}

TEST(ProfileFile, RefusesValuesThatNoDocumentsCanGive) {
  struct Case {
    std::string name;
    size_t channel;
    std::function<void(Parts&)> spoil;
  };
  constexpr uint64_t kShares = uint64_t{kDocuments} << 40;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const size_t second = kChannels;                                      // layer 1, channel 0
  const size_t row = (kChannels + 3) * static_cast<size_t>(kTopRanks);  // layer 1, channel 3
  const std::vector<Case> cases = {
      {"normalized", 0, [&](Parts& p) { p.Set("normalized", second, kShares + 1); }},
      {"paper_normalized", 0, [&](Parts& p) { p.Set("paper_normalized", second, ~uint64_t{0}); }},
      {"log_score", 0, [&](Parts& p) { p.Set("log_score", second, int64_t{5} << 28); }},
      {"log_score", 0,
       [&](Parts& p) { p.Set("log_score", second, std::numeric_limits<int64_t>::min()); }},
      {"rank", 0, [&](Parts& p) { p.Set("rank", second, uint64_t{kDocuments * 6 + 1}); }},
      {"activation", 0, [&](Parts& p) { p.Set("activation", second, -(int64_t{5} << 42)); }},
      {"half_normalized", 0, [&](Parts& p) { p.Set("half_normalized", second, kShares); }},
      {"half_normalized", 0,
       [&](Parts& p) {  // the rest is more than the documents of the other half can give
         p.Set("normalized", second, kShares);
         p.Set("half_normalized", second, uint64_t{0});
       }},
      {"peak", 0, [&](Parts& p) { p.Set("peak", second, -1.0f); }},
      {"peak", 0, [&](Parts& p) { p.Set("peak", second, kNan); }},
      {"top_ranks", 3, [&](Parts& p) { p.Set("top_ranks", row, uint16_t{7}); }},
      {"top_ranks", 3,
       [&](Parts& p) {
         p.Set("top_ranks", row + 4, uint16_t{6}), p.Set("top_ranks", row, uint16_t{5});
       }},
      {"top_ranks", 3,
       [&](Parts& p) {
         for (size_t i = 0; i <= 5; ++i) p.Set("top_ranks", row + i, uint16_t{6});
       }},
  };
  for (const Case& c : cases) {
    Parts parts = TakeApart(FileOf(AnyProfile()));
    c.spoil(parts);
    // Ranks are of neurons and of units of attention.
    const char* unit = std::string_view(c.name) == "top_ranks" ? "unit" : "channel";
    EXPECT_THAT(ReadProfile("x", parts.Assemble()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("tensor \"", c.name, "\", layer 1, ", unit, " ",
                                                c.channel))));
  }
}

TEST(ProfileFile, RefusesAResidualStreamThatIsNotFinite) {
  for (const float value : {-1.0f, std::numeric_limits<float>::infinity()}) {
    Parts parts = TakeApart(FileOf(AnyProfile()));
    parts.Set("residual_peak", 1, value);
    EXPECT_THAT(ReadProfile("x", parts.Assemble()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("tensor \"residual_peak\", layer 1")));
  }
}

TEST(ProfileFile, WritesNothingThatItCouldNotRead) {
  int64_t written = 0;
  const ByteSink sink = [&written](std::string_view part) {
    written += static_cast<int64_t>(part.size());
    return absl::OkStatus();
  };
  EXPECT_THAT(WriteProfile(AnyKey(), *Profile::Empty(1, 1, 1), sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"documents\" is \"0\"")));
  ProfileKey nameless = AnyKey();
  nameless.model = "";
  EXPECT_THAT(WriteProfile(nameless, AnyProfile(), sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"model\"")));
  ProfileKey bad_text = AnyKey();
  bad_text.compute_type = "\xff";
  EXPECT_THAT(WriteProfile(bad_text, AnyProfile(), sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"compute_type\"")));
  Profile broken = AnyProfile();
  broken.layers[0].peak[2] = -1;
  EXPECT_THAT(WriteProfile(AnyKey(), broken, sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("channel 2")));
  EXPECT_EQ(written, 0);
}

TEST(ProfileFile, PassesOnWhatTheSinkSays) {
  EXPECT_THAT(WriteProfile(AnyKey(), AnyProfile(),
                           [](std::string_view) { return absl::UnavailableError("no disk"); }),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no disk")));
}

TEST(ProfileKey, HasADigestOfEverythingButTheModelsName) {
  const std::vector<std::function<void(ProfileKey&)>> changes = {
      [](ProfileKey& k) { k.model_digest = Sha256Of("x"); },
      [](ProfileKey& k) { k.tokenizer_digest = Sha256Of("x"); },
      [](ProfileKey& k) { k.corpus_digest = Sha256Of("x"); },
      [](ProfileKey& k) { std::swap(k.model_digest, k.corpus_digest); },
      [](ProfileKey& k) { ++k.max_document_tokens; },
      [](ProfileKey& k) { ++k.block_tokens; },
      [](ProfileKey& k) { ++k.framing_version; },
      [](ProfileKey& k) { ++k.scoring_version; },
      [](ProfileKey& k) { k.compute_type = "bfloat16"; },
      [](ProfileKey& k) { k.device_kind = "cuda"; },
      [](ProfileKey& k) { k.attention = true; },
  };
  for (const auto& change : changes) {
    ProfileKey key = AnyKey();
    change(key);
    EXPECT_NE(key.digest(), AnyKey().digest());
  }
  ProfileKey renamed = AnyKey();
  renamed.model = "another name";
  EXPECT_EQ(renamed.digest(), AnyKey().digest());
}

}  // namespace
}  // namespace secateur
