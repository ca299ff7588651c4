// CompareDimensions over gRPC.
#include <set>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

v1::CompareDimensionsRequest Request(
    const std::vector<std::pair<std::string, std::string>>& values) {
  v1::CompareDimensionsRequest request;
  request.set_parent("models/tiny");
  for (const auto& [key, value] : values) {
    v1::DimensionValue& out = *request.add_values();
    out.set_key(key);
    out.set_value(value);
  }
  return request;
}

class CompareDimensionsTest : public testing::Test {
 protected:
  CompareDimensionsTest() {
    UploadLawCorpora(live_);
    live_.ProfileAll();
  }
  grpc::Status Call(const v1::CompareDimensionsRequest& request,
                    v1::CompareDimensionsResponse* response) {
    return live_.Call(&Stub::CompareDimensions, request, response);
  }
  LiveServer live_;
};

TEST_F(CompareDimensionsTest, ComparesEveryPairAndStoresNothing) {
  const auto before = live_.Stored();
  v1::CompareDimensionsRequest request =
      Request({{"language", "en"}, {"language", "de"}, {"domain", "law"}});
  request.set_neuron_ratio(0.25);
  v1::CompareDimensionsResponse response;
  ASSERT_RPC_OK(Call(request, &response));
  EXPECT_EQ(response.width(), 96);
  EXPECT_NEAR(response.jaccard_by_chance(), 0.75 / 1.25, 1e-12);
  ASSERT_THAT(response.comparisons(), SizeIs(3));
  EXPECT_EQ(response.comparisons(0).first().value(), "en");
  EXPECT_EQ(response.comparisons(0).second().value(), "de");
  EXPECT_EQ(response.comparisons(2).first().value(), "de");
  EXPECT_EQ(response.comparisons(2).second().key(), "domain");
  EXPECT_EQ(response.comparisons(0).shared_corpus_count(), 0);
  EXPECT_EQ(response.comparisons(1).shared_corpus_count(), 1);  // English law
  for (const v1::DimensionComparison& pair : response.comparisons()) {
    EXPECT_GT(pair.jaccard(), 0.5);
    EXPECT_LT(pair.jaccard(), 1);
    EXPECT_GT(pair.rank_correlation(), 0);
    EXPECT_LT(pair.rank_correlation(), 1);
    EXPECT_EQ(pair.layer_jaccards_size(), pair.layer_rank_correlations_size());
    EXPECT_GT(pair.layer_jaccards_size(), 0);
  }
  EXPECT_EQ(live_.Stored(), before);
}

// Both labels on the same corpus alone: one view, twice.
TEST_F(CompareDimensionsTest, FindsLabelsOfTheSameCorpusEqual) {
  v1::CompareDimensionsRequest request = Request({{"domain", "cooking"}, {"course", "dessert"}});
  v1::CompareDimensionsResponse response;
  live_.Upload({{"course", "dessert"}, {"language", "fr"}}, JsonLines(3, "cake"));
  EXPECT_THAT(Call(request, &response), IsError(grpc::FAILED_PRECONDITION, "PROFILE_MISSING"));
  live_.ProfileAll();
  request = Request({{"language", "fr"}, {"course", "dessert"}});
  ASSERT_RPC_OK(Call(request, &response));
  EXPECT_EQ(response.width(), 83);  // 65 % of 128
  EXPECT_EQ(response.comparisons(0).jaccard(), 1);
  EXPECT_DOUBLE_EQ(response.comparisons(0).rank_correlation(), 1);
  EXPECT_EQ(response.comparisons(0).shared_corpus_count(), 1);
}

TEST_F(CompareDimensionsTest, NamesTheFieldThatCannotBe) {
  v1::CompareDimensionsResponse response;
  const auto error = [&](const v1::CompareDimensionsRequest& request) {
    const grpc::Status status = Call(request, &response);
    EXPECT_FALSE(status.ok());
    return ErrorOf(status);
  };
  EXPECT_EQ(error(Request({{"language", "en"}})).field, "values");
  EXPECT_EQ(error(Request({{"language", "en"}, {"language", "en"}})).field, "values[1]");
  EXPECT_EQ(error(Request({{"language", "en"}, {"Domain", "law"}})).field, "values[1]");
  const RpcError unknown = error(Request({{"language", "en"}, {"language", "dee"}}));
  EXPECT_EQ(unknown.reason, "NO_CORPUS_FOR_LABEL");
  EXPECT_EQ(unknown.field, "values");
  EXPECT_THAT(unknown.message, HasSubstr("known values of language: de"));
  v1::CompareDimensionsRequest request = Request({{"language", "en"}, {"language", "de"}});
  for (const double ratio : {-0.1, 1.0}) {
    request.set_neuron_ratio(ratio);
    EXPECT_EQ(error(request).field, "neuron_ratio");
  }
  request.clear_neuron_ratio();
  request.set_max_document_tokens(1);
  EXPECT_EQ(error(request).field, "max_document_tokens");
  request.set_max_document_tokens(64);
  EXPECT_EQ(error(request).reason, "PROFILE_MISSING");
  request.set_parent("models/other");
  EXPECT_EQ(error(request).code, grpc::NOT_FOUND);
}

}  // namespace
}  // namespace secateur
