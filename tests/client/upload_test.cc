#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::Each;
using testing::Le;
using testing::SizeIs;

// Gives `bytes` in pieces of at most `piece`, then the end.
ByteSource Pieces(const std::string& bytes, size_t piece) {
  return [bytes, piece, at = size_t{0}](char* buffer, size_t capacity) mutable {
    const size_t size = std::min({piece, capacity, bytes.size() - at});
    std::memcpy(buffer, bytes.data() + at, size);
    at += size;
    return absl::StatusOr<size_t>(size);
  };
}

std::string Joined(const std::vector<std::string>& chunks) {
  std::string all;
  for (const std::string& chunk : chunks) all += chunk;
  return all;
}

std::string Text(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

v1::UploadCorpusMetadata Metadata() {
  v1::UploadCorpusMetadata metadata;
  (*metadata.mutable_corpus()->mutable_labels())["language"] = "ko";
  metadata.mutable_corpus()->set_purpose(v1::EVALUATION);
  metadata.set_format(v1::TEXT);
  return metadata;
}

TEST(Upload, SendsTheMetadataAndThenEveryByteInChunksOfAtMostOneMebibyte) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{1} << 20) + 1, size_t{3'000'000}}) {
    FakeServer server;
    const std::string text = Text(size);
    ASSERT_OK_AND_ASSIGN(const v1::UploadCorpusResponse response,
                         server.Client().UploadCorpus(Metadata(), Pieces(text, size + 1)));
    EXPECT_EQ(response.corpus().name(), "corpora/c1");
    EXPECT_EQ(server.secateur.uploads().metadata.corpus().labels().at("language"), "ko");
    EXPECT_EQ(server.secateur.uploads().metadata.corpus().purpose(), v1::EVALUATION);
    EXPECT_EQ(server.secateur.uploads().metadata.format(), v1::TEXT);
    EXPECT_EQ(Joined(server.secateur.uploads().chunks), text);
    EXPECT_THAT(server.secateur.uploads().chunks, Each(SizeIs(Le(size_t{1} << 20))));
    EXPECT_EQ(server.secateur.uploads().chunks.size(), (size + (1 << 20) - 1) >> 20);
  }
}

TEST(Upload, TakesASourceThatGivesALittleAtATime) {
  FakeServer server;
  const std::string text = Text(10'000);
  ASSERT_OK(server.Client().UploadCorpus(Metadata(), Pieces(text, 3'333)));
  EXPECT_EQ(Joined(server.secateur.uploads().chunks), text);
}

TEST(Upload, EndsEarlyWhenTheServerKnowsTheDigest) {
  FakeServer server;
  v1::Corpus known;
  known.set_name("corpora/cknown");
  known.set_digest(std::string(64, 'a'));
  server.secateur.corpora = {known};
  v1::UploadCorpusMetadata metadata = Metadata();
  metadata.mutable_corpus()->set_digest(known.digest());
  // A source without an end: only the server's answer can stop the upload.
  const auto response = server.Client().UploadCorpus(
      metadata, [](char* buffer, size_t capacity) -> absl::StatusOr<size_t> {
        std::memset(buffer, 'x', capacity);
        return capacity;
      });
  ASSERT_OK(response);
  EXPECT_TRUE(response->existed());
  EXPECT_EQ(response->corpus().name(), "corpora/cknown");
}

TEST(Upload, ReturnsTheServersRefusalAndStopsReading) {
  FakeServer server;
  server.secateur.refusal = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "line 3: no text");
  EXPECT_THAT(
      server.Client().UploadCorpus(Metadata(),
                                   [](char* buffer, size_t capacity) -> absl::StatusOr<size_t> {
                                     std::memset(buffer, 'x', capacity);
                                     return capacity;
                                   }),
      StatusIs(absl::StatusCode::kInvalidArgument, "line 3: no text"));
}

TEST(Upload, IsCancelledWhenTheSourceFails) {
  FakeServer server;
  int calls = 0;
  EXPECT_THAT(server.Client().UploadCorpus(Metadata(),
                                           [&](char* buffer, size_t) -> absl::StatusOr<size_t> {
                                             if (++calls == 2)
                                               return absl::NotFoundError("the disk is gone");
                                             *buffer = 'x';
                                             return 1;
                                           }),
              StatusIs(absl::StatusCode::kNotFound, "the disk is gone"));
  server.Stop();  // waits for the handler
  EXPECT_FALSE(server.secateur.uploads().finished);
}

}  // namespace
}  // namespace secateur
