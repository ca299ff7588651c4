#include "server/corpus/corpus_meta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

StoredCorpus Sample() {
  StoredCorpus corpus;
  corpus.documents_key = "uploads/abc.jsonl";
  corpus.info.digest = Sha256Of("documents");
  corpus.info.labels = {{"language", "ko"}, {"domain", "legal"}};
  corpus.info.purpose = CorpusPurpose::kEvaluation;
  corpus.info.display_name = "판례 \"요약\"\n";
  corpus.info.documents = 12;
  corpus.info.bytes = int64_t{1} << 40;
  corpus.info.dropped_fields = 3;
  corpus.info.create_time = absl::FromUnixNanos(1'700'000'000'123'456'789);
  corpus.info.generation = 7;
  return corpus;
}

TEST(CorpusMeta, ReadsBackWhatWasWritten) {
  const StoredCorpus corpus = Sample();
  ASSERT_OK_AND_ASSIGN(const StoredCorpus read, DecodeMeta(EncodeMeta(corpus)));
  EXPECT_EQ(read.documents_key, corpus.documents_key);
  EXPECT_EQ(read.info.digest, corpus.info.digest);
  EXPECT_EQ(read.info.labels, corpus.info.labels);
  EXPECT_EQ(read.info.purpose, corpus.info.purpose);
  EXPECT_EQ(read.info.display_name, corpus.info.display_name);
  EXPECT_EQ(read.info.documents, corpus.info.documents);
  EXPECT_EQ(read.info.bytes, corpus.info.bytes);
  EXPECT_EQ(read.info.dropped_fields, corpus.info.dropped_fields);
  EXPECT_EQ(read.info.create_time, corpus.info.create_time);
  EXPECT_EQ(read.info.generation, corpus.info.generation);
  EXPECT_EQ(EncodeMeta(read), EncodeMeta(corpus));
}

TEST(CorpusMeta, EveryFlippedBitIsSeen) {
  const std::string bytes = EncodeMeta(Sample());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      ASSERT_FALSE(DecodeMeta(damaged).ok()) << damaged;
    }
  }
}

TEST(CorpusMeta, EveryTruncationIsDamage) {
  const std::string bytes = EncodeMeta(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(DecodeMeta(bytes.substr(0, size)), StatusIs(StatusCode::kDataLoss)) << size;
  }
}

TEST(CorpusMeta, ANewerFormatIsRefusedNotMisread) {
  const std::string newer =
      absl::StrReplaceAll(EncodeMeta(Sample()), {{"{\"format\":1,", "{\"format\":2,"}});
  EXPECT_THAT(DecodeMeta(newer), StatusIs(StatusCode::kFailedPrecondition,
                                          HasSubstr("format 2 was written by a newer")));
}

TEST(CorpusMeta, AValidDigestOverTheWrongFieldsIsDamage) {
  for (const nlohmann::ordered_json& corpus :
       {nlohmann::ordered_json{{"digest", 1}}, nlohmann::ordered_json::array(),
        nlohmann::ordered_json::object(), nlohmann::ordered_json("text")}) {
    const nlohmann::ordered_json meta = {
        {"format", 1}, {"corpus", corpus}, {"sha256", Sha256Of(corpus.dump()).Hex()}};
    EXPECT_THAT(DecodeMeta(meta.dump()), StatusIs(StatusCode::kDataLoss)) << meta;
  }
}

TEST(CorpusMeta, KeysSortByGeneration) {
  EXPECT_EQ(MetaKey("cab", 1), "corpora/cab/meta-00000001.json");
  EXPECT_LT(MetaKey("cab", 9), MetaKey("cab", 10));
  EXPECT_LT(MetaKey("cab", 9'999'999), MetaKey("cab", 99'999'999));
}

}  // namespace
}  // namespace secateur
