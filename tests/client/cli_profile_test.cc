// secateur profile ..., secateur dimension ...
#include "tests/client/cli_long_work.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using ProfileCliTest = LongWorkCliTest;

TEST_F(ProfileCliTest, ProfilesTheCorporaThatAreMeant) {
  v1::CreateProfileResponse response;
  response.add_profiles()->set_name("models/m/profiles/p1");
  response.add_profiles()->set_name("models/m/profiles/p2");
  response.set_cached_count(1);
  EndWith(SucceededOperation(kOperation, response));
  EXPECT_EQ(Run({"profile", "create", "--all"}), kOk) << err_;
  EXPECT_EQ(server_.secateur.profile_request.filter(), "*");
  EXPECT_THAT(out_, AllOf(HasSubstr("models/m/profiles/p2"), HasSubstr("2 profiles, 1 of them")));
  EXPECT_EQ(Run({"profile", "create", "--filter", "labels.task = \"qa\"", "--request-id", "r"}),
            kOk);
  EXPECT_EQ(server_.secateur.profile_request.filter(), "labels.task = \"qa\"");
  EXPECT_EQ(server_.secateur.profile_request.request_id(), "r");
  EXPECT_EQ(Run({"profile", "create", "c1", "corpora/c2", "--max-document-tokens", "128",
                 "--output", "json"}),
            kOk);
  EXPECT_THAT(server_.secateur.profile_request.corpora(), ElementsAre("corpora/c1", "corpora/c2"));
  EXPECT_EQ(server_.secateur.profile_request.max_document_tokens(), 128);
  ExpectSame(Parsed<v1::CreateProfileResponse>(), response);
}

TEST_F(ProfileCliTest, ListsDimensionsAndProfiles) {
  v1::Dimension dimension;
  dimension.set_key("language");
  dimension.set_value("ko");
  dimension.set_document_count(284);
  server_.secateur.dimensions = {dimension};
  v1::Profile profile;
  profile.set_name("models/m/profiles/p1");
  profile.set_corpus("corpora/c1");
  profile.set_token_count(4321);
  server_.secateur.profiles = {profile, profile, profile};
  EXPECT_EQ(Run({"dimension", "list"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("language"), HasSubstr("ko"), HasSubstr("284")));
  EXPECT_EQ(Run({"dimension", "list", "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<v1::ListDimensionsResponse>().dimensions(0).value(), "ko");
  EXPECT_EQ(Run({"profile", "list"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("models/m/profiles/p1  corpora/c1"), HasSubstr("4321")));
  EXPECT_EQ(Run({"profile", "list", "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<v1::ListProfilesResponse>().profiles_size(), 3);
}

TEST_F(ProfileCliTest, ComparesDimensionValues) {
  server_.secateur.comparison = FromText<v1::CompareDimensionsResponse>(R"(
      comparisons { first { key: "language" value: "ko" } second { key: "language" value: "ja" }
                    jaccard: 0.8125 layer_jaccards: [0.9, 0.725] rank_correlation: 0.9
                    layer_rank_correlations: [0.95, 0.85] shared_corpus_count: 1 }
      width: 998 jaccard_by_chance: 0.48 )");
  EXPECT_EQ(Run({"dimension", "compare", "language=ko", "language=ja", "--remove", "25%",
                 "--max-document-tokens", "128"}),
            kOk)
      << err_;
  ExpectSame(server_.secateur.compare_request, FromText<v1::CompareDimensionsRequest>(R"(
      parent: "models/m" values { key: "language" value: "ko" }
      values { key: "language" value: "ja" } neuron_ratio: 0.25 max_document_tokens: 128)"));
  EXPECT_THAT(out_, AllOf(HasSubstr("language=ko  language=ja"), HasSubstr("0.812"),
                          HasSubstr("1 (0.72)"), HasSubstr("0.900"), HasSubstr("998 a layer"),
                          HasSubstr("by chance 0.480"), Not(HasSubstr("0.950"))));
  EXPECT_EQ(Run({"dimension", "compare", "language=ko", "language=ja", "--layers"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("0      0.900    0.950"), HasSubstr("1      0.725    0.850")));
  EXPECT_EQ(Run({"dimension", "compare", "task=qa", "task=nli", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::CompareDimensionsResponse>(), server_.secateur.comparison);
}

}  // namespace
}  // namespace secateur::cli
