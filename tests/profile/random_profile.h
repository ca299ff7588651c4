// Profiles of random documents: scores over many magnitudes, with ties, zeros and outliers.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "server/profile/profile.h"
#include "server/profile/profile_file.h"
#include "server/profile/score_sums.h"
#include "tests/support/status_matchers.h"

namespace secateur {

// One document: the scores of each layer.
using RandomDocument = std::vector<DocumentScores>;

inline std::vector<float> RandomScores(int64_t channels, std::mt19937_64& random) {
  std::lognormal_distribution<float> value(-6.0f, 3.0f);
  std::uniform_int_distribution<int> kind(0, 9);
  std::vector<float> scores(static_cast<size_t>(channels));
  for (float& score : scores) {
    const int k = kind(random);
    score = k == 0 ? 0.0f : k == 1 ? 0.25f : value(random);  // zeros and ties
  }
  return scores;
}

inline RandomDocument MakeDocument(int64_t layers, int64_t channels, std::mt19937_64& random) {
  RandomDocument document(static_cast<size_t>(layers));
  for (DocumentScores& scores : document) {
    scores.relative = RandomScores(channels, random);
    scores.paper = RandomScores(channels, random);
    scores.peak = RandomScores(channels, random);
    scores.activation = RandomScores(channels, random);
    for (float& mean : scores.activation) mean = random() % 2 == 0 ? mean : -mean;
    scores.residual_peak = RandomScores(1, random)[0];
  }
  const bool in_half = random() % 2 == 0;
  for (DocumentScores& scores : document) scores.in_half = in_half;
  return document;
}

inline std::vector<RandomDocument> MakeDocuments(int64_t count, int64_t layers, int64_t channels,
                                                 uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<RandomDocument> documents;
  for (int64_t i = 0; i < count; ++i) documents.push_back(MakeDocument(layers, channels, random));
  return documents;
}

constexpr int64_t kGroups = 3;

// What a document says of a KV head group: a number of its own.
inline double GroupScore(const DocumentScores& scores, int64_t group) {
  const auto channel = static_cast<size_t>(group) % scores.relative.size();
  return static_cast<double>(scores.relative[channel]) * static_cast<double>(group + 1);
}

// The profile of `documents` in a single pass; each counts as 10 tokens, 1 dropped.
inline Profile ProfileOf(const std::vector<RandomDocument>& documents, int64_t layers,
                         int64_t channels, int64_t groups = kGroups) {
  Profile profile = Profile::Empty(layers, channels, groups).value();
  for (const RandomDocument& document : documents) {
    for (size_t l = 0; l < document.size(); ++l) {
      EXPECT_OK(AddDocument(document[l], profile.documents, profile.layers[l]));
      for (int64_t g = 0; g < groups; ++g) {
        AddScore(GroupScore(document[l], g), profile.layers[l].group_score[static_cast<size_t>(g)]);
      }
    }
    profile.documents += 1;
    profile.half_documents += document[0].in_half ? 1 : 0;
    profile.tokens += 10;
    profile.dropped_tokens += 1;
  }
  return profile;
}

inline ProfileKey AnyKey() {
  return {.model = "tiny",
          .model_digest = Sha256Of("model"),
          .tokenizer_digest = Sha256Of("tokenizer"),
          .corpus_digest = Sha256Of("corpus"),
          .max_document_tokens = 512,
          .block_tokens = 2048,
          .framing_version = 1,
          .scoring_version = kScoringVersion,
          .compute_type = "float32",
          .device_kind = "cpu"};
}

inline std::string FileOf(const Profile& profile, const ProfileKey& key = AnyKey()) {
  std::string bytes;
  EXPECT_OK(WriteProfile(key, profile, [&bytes](std::string_view part) {
    bytes.append(part);
    return absl::OkStatus();
  }));
  return bytes;
}

}  // namespace secateur
