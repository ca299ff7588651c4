#include "server/corpus/corpus_meta.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

absl::StatusOr<StoredCorpus> FromJson(const Json& json) {
  StoredCorpus corpus;
  CorpusInfo& info = corpus.info;
  ASSIGN_OR_RETURN(info.digest, Digest::FromHex(json.at("digest").get<std::string>()));
  corpus.documents_key = json.at("documents_key").get<std::string>();
  info.labels = json.at("labels").get<Labels>();
  const std::string purpose = json.at("purpose").get<std::string>();
  if (purpose != PurposeName(CorpusPurpose::kCalibration))
    info.purpose = CorpusPurpose::kEvaluation;
  info.display_name = json.at("display_name").get<std::string>();
  info.documents = json.at("documents").get<int64_t>();
  info.bytes = json.at("bytes").get<int64_t>();
  info.dropped_fields = json.at("dropped_fields").get<int64_t>();
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, json.at("create_time").get<std::string>(),
                       &info.create_time, &error)) {
    return absl::DataLossError(StrCat("create_time: ", error));
  }
  info.generation = json.at("generation").get<int64_t>();
  return corpus;
}

}  // namespace

std::string_view PurposeName(CorpusPurpose purpose) {
  return purpose == CorpusPurpose::kCalibration ? "CALIBRATION" : "EVALUATION";
}

std::string MetaKey(const std::string& id, int64_t generation) {
  return absl::StrFormat("corpora/%s/meta-%08d.json", id, generation);
}

std::string EncodeMeta(const StoredCorpus& corpus) {
  const CorpusInfo& info = corpus.info;
  Json labels = Json::object();
  for (const auto& [key, value] : info.labels) labels[key] = value;
  const Json json = {
      {"digest", info.digest.Hex()},
      {"documents_key", corpus.documents_key},
      {"labels", labels},
      {"purpose", PurposeName(info.purpose)},
      {"display_name", info.display_name},
      {"documents", info.documents},
      {"bytes", info.bytes},
      {"dropped_fields", info.dropped_fields},
      {"create_time", absl::FormatTime(absl::RFC3339_full, info.create_time, absl::UTCTimeZone())},
      {"generation", info.generation},
  };
  const std::string sha256 = Sha256Of(Dump(json)).Hex();
  return Dump({{"format", kCorpusMetaFormat}, {"corpus", json}, {"sha256", sha256}});
}

absl::StatusOr<StoredCorpus> DecodeMeta(std::string_view bytes) {
  const Json json = Json::parse(bytes, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("not a JSON object");
  const auto format = json.find("format");
  if (format == json.end() || !format->is_number_integer()) {
    return absl::DataLossError("no format version");
  }
  if (*format > kCorpusMetaFormat) {
    return absl::FailedPreconditionError(
        StrCat("format ", format->dump(), " was written by a newer server; this one reads up to ",
               kCorpusMetaFormat));
  }
  if (*format != kCorpusMetaFormat) {
    return absl::DataLossError(StrCat("format ", format->dump(), " never existed"));
  }
  const auto corpus = json.find("corpus");
  const auto sha256 = json.find("sha256");
  if (json.size() != 3 || corpus == json.end() || sha256 == json.end() ||
      *sha256 != Sha256Of(Dump(*corpus)).Hex()) {
    return absl::DataLossError("its SHA-256 does not match");
  }
  try {
    return FromJson(*corpus);
  } catch (const Json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

}  // namespace secateur
