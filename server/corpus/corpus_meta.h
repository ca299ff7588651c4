// The object that makes a corpus exist: its CorpusInfo and where its documents lie, as JSON with
// its own SHA-256, so that a damaged one is seen.
//
//   {"format":1,"corpus":{"digest":...,"documents_key":...,"labels":{...},"purpose":"CALIBRATION",
//    "display_name":...,"documents":n,"bytes":n,"dropped_fields":n,"create_time":RFC 3339,
//    "generation":n},"sha256":of the bytes of the "corpus" object}
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/corpus/corpus.h"

namespace secateur {

inline constexpr int kCorpusMetaFormat = 1;

struct StoredCorpus {
  CorpusInfo info;
  std::string documents_key;
};

std::string_view PurposeName(CorpusPurpose purpose);  // "CALIBRATION", "EVALUATION"

// `generation` is at most 99,999,999.
std::string MetaKey(const std::string& id, int64_t generation);
std::string EncodeMeta(const StoredCorpus& corpus);
// FAILED_PRECONDITION for a newer format; DATA_LOSS for anything that EncodeMeta does not write.
absl::StatusOr<StoredCorpus> DecodeMeta(std::string_view bytes);

}  // namespace secateur
