// The ways to choose what goes and to make up for it, over gRPC.
#include <numeric>
#include <set>

#include "server/model/tensor_table.h"
#include "server/model/weights.h"
#include "tests/integration/live_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

TEST(CreateExpert, CompensatesBySecondOrderInEveryShape) {
  LiveServer live;
  UploadLawCorpora(live);
  for (const v1::Shape shape : {v1::UNIFORM, v1::MASKED}) {
    v1::CreateExpertRequest request = LawRequest();
    request.mutable_spec()->set_rule(v1::SECOND_ORDER);
    request.mutable_spec()->set_shape(shape);
    const v1::Expert expert = live.Make(request);
    EXPECT_EQ(expert.spec().compensation(), v1::LEAST_SQUARES);
    EXPECT_EQ(expert.spec().general_weight(), 0.1);
    EXPECT_EQ(expert.size().width(), 96);
    const v1::CompensationResult& result = expert.compensation();
    EXPECT_GT(result.calibration_token_count(), result.held_out_token_count());
    EXPECT_GT(result.held_out_token_count(), 0);
    ASSERT_THAT(result.layers(), SizeIs(3));
    int64_t neurons = 0;
    for (const v1::LayerCompensation& layer : result.layers()) neurons += layer.width();
    EXPECT_EQ(neurons, 3 * 96);
    for (const v1::CompensationCandidate& candidate : result.candidates()) {
      EXPECT_LE(result.chosen().held_out_nats_per_token(), candidate.held_out_nats_per_token());
    }
    // From what was measured before, and measured anew: the same bytes.
    const auto digests = DigestsOf(expert);
    request.set_cache_policy(v1::REFRESH);
    EXPECT_EQ(DigestsOf(live.Make(request)), digests);
    LiveServer other;
    UploadLawCorpora(other);
    EXPECT_EQ(DigestsOf(other.Make(request)), digests);
  }
}

// A bias is in config.json and in the tensors if and only if it did better on held-out text, and
// the manifest counts what is there.
TEST(CreateExpert, MakesUpForNeuronsByABiasOrOnTheCutPrefix) {
  LiveServer live;
  UploadLawCorpora(live);
  for (const v1::Compensation compensation : {v1::BIAS, v1::SEQUENTIAL}) {
    for (const v1::Shape shape : {v1::UNIFORM, v1::MASKED}) {
      v1::CreateExpertRequest request = LawRequest();
      request.mutable_spec()->set_compensation(compensation);
      request.mutable_spec()->set_shape(shape);
      const v1::Expert expert = live.Make(request);
      EXPECT_EQ(expert.spec().compensation(), compensation);
      const v1::CompensationResult& result = expert.compensation();
      std::set<int> tried;
      for (const v1::CompensationCandidate& candidate : result.candidates()) {
        tried.insert(candidate.compensation());
        EXPECT_LE(result.chosen().held_out_nats_per_token(), candidate.held_out_nats_per_token());
      }
      EXPECT_THAT(tried, Contains(int{compensation}));
      EXPECT_THAT(tried, Contains(int{v1::NONE}));
      ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(expert.uri().substr(5)));
      EXPECT_EQ(folder->config().mlp_bias, result.chosen().compensation() == v1::BIAS);
      if (shape == v1::UNIFORM) {
        EXPECT_EQ(CountParameters(folder->config()), expert.size().parameter_count());
        EXPECT_NEAR(expert.size().parameter_reduction(),
                    1.0 - static_cast<double>(expert.size().parameter_count()) /
                              static_cast<double>(expert.base_size().parameter_count()),
                    1e-9);
      }
    }
  }
}

// A target may take multiples that the model's width is below.
TEST(PlanExpert, RefusesAWidthThatTheTargetCannotTakeInWords) {
  LiveServer live;
  UploadLawCorpora(live);
  live.Make(LawRequest());  // profiles
  for (const auto& [degree, part] : {std::pair(64, "multiples of 4096"), {1, "down to width 64"}}) {
    v1::PlanExpertRequest request;
    request.set_parent(LawRequest().parent());
    v1::ExpertSpec& spec = *request.mutable_spec();
    *spec.mutable_select() = LawRequest().spec().select();
    spec.set_rule(v1::CUS_PRUN);
    spec.mutable_budget()->set_sigma(0.001);
    spec.mutable_target()->set_engine(v1::VLLM);
    spec.mutable_target()->set_tensor_parallel_degree(degree);
    v1::PlanExpertResponse response;
    const grpc::Status status = live.Call(&Stub::PlanExpert, request, &response);
    EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
    EXPECT_THAT(ErrorOf(status).message, HasSubstr(part));
  }
}

TEST(CreateExpert, RanksByEveryRuleFromTheSameProfiles) {
  LiveServer live;
  UploadLawCorpora(live);
  std::set<std::string> masks;
  for (const v1::Rule rule :
       {v1::RELATIVE_MEAN, v1::PAPER_MEAN, v1::LOG_MEAN, v1::RANK_MEAN, v1::CUS_PRUN}) {
    v1::CreateExpertRequest request = LawRequest();
    request.mutable_spec()->set_rule(rule);
    const v1::Expert expert = live.Make(request);
    EXPECT_EQ(expert.spec().rule(), rule);
    EXPECT_EQ(expert.size().width(), 96);
    EXPECT_EQ(expert.has_convergence(), rule == v1::RELATIVE_MEAN);
    masks.insert(expert.mask_digest());
  }
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->set_rule(v1::CUS_PRUN);
  request.mutable_spec()->set_quantile(0.5);
  const v1::Expert expert = live.Make(request);
  EXPECT_EQ(expert.spec().quantile(), 0.5);
  masks.insert(expert.mask_digest());
  EXPECT_GE(masks.size(), 5u) << "rules that choose alike";
}

TEST(CreateExpert, WritesTheStrictSetsOfCusPrunAsZeros) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->set_rule(v1::CUS_PRUN);
  request.mutable_spec()->set_shape(v1::MASKED);
  request.mutable_spec()->mutable_budget()->set_sigma(0.7);
  const v1::Expert expert = live.Make(request);
  EXPECT_EQ(expert.sigma(), 0.7);
  EXPECT_EQ(expert.spec().budget().sigma(), 0.7);
  EXPECT_GT(expert.size().neuron_ratio(), 0);
  EXPECT_LT(expert.size().neuron_ratio(), 0.7);
  EXPECT_LT(expert.size().parameter_count(), expert.base_size().parameter_count());
  // The canonical spec is a request for the same expert.
  v1::CreateExpertRequest again = request;
  *again.mutable_spec() = expert.spec();
  again.set_cache_policy(v1::ONLY_IF_CACHED);
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(again, &operation));
  EXPECT_EQ(ResponseOf<v1::Expert>(operation).name(), expert.name());
  request.mutable_spec()->mutable_budget()->set_sigma(1);
  EXPECT_THAT(live.Create(request, &operation),
              IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
}

int64_t Sum(const google::protobuf::RepeatedField<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST(CreateExpert, WritesTheStrictSetsOfAttentionAsZerosToo) {
  LiveServer live;
  UploadLawCorpora(live);
  live.ProfileAll();
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->set_rule(v1::CUS_PRUN);
  request.mutable_spec()->set_shape(v1::MASKED);
  request.mutable_spec()->mutable_budget()->set_sigma(0.8);
  const v1::Expert neurons = live.Make(request);
  EXPECT_FALSE(neurons.has_attention());
  request.mutable_spec()->add_units(v1::FFN_NEURON);
  request.mutable_spec()->add_units(v1::ATTENTION_CHANNEL);
  v1::PlanExpertRequest plan_request;
  plan_request.set_parent("models/tiny");
  *plan_request.mutable_spec() = request.spec();
  v1::PlanExpertResponse plans;
  // Profiles that do not know attention are not enough; making the expert makes others.
  const grpc::Status missing = live.Call(&Stub::PlanExpert, plan_request, &plans);
  EXPECT_THAT(missing, IsError(grpc::FAILED_PRECONDITION, "PROFILE_MISSING"));
  EXPECT_THAT(missing.error_message(), HasSubstr("attention"));
  const v1::Expert expert = live.Make(request);
  EXPECT_NE(expert.name(), neurons.name());
  EXPECT_EQ(expert.size().neuron_ratio(), neurons.size().neuron_ratio());
  EXPECT_LT(expert.size().parameter_count(), neurons.size().parameter_count());
  EXPECT_LE(expert.verification().max_logit_error(), 1e-5);
  const v1::AttentionResult& attention = expert.attention();
  EXPECT_THAT(attention.query_row_counts(), SizeIs(3));
  EXPECT_THAT(attention.output_column_counts(), SizeIs(3));
  EXPECT_GT(Sum(attention.key_row_counts()), 0);
  EXPECT_GT(Sum(attention.value_row_counts()), 0);
  EXPECT_GT(Sum(attention.output_column_counts()), 0);
  // Two query heads read each KV head, and rows go in pairs.
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(attention.key_row_counts(layer) % 2, 0);
    EXPECT_EQ(attention.query_row_counts(layer), 2 * attention.key_row_counts(layer));
  }
  ASSERT_RPC_OK(live.Call(&Stub::PlanExpert, plan_request, &plans));
  EXPECT_EQ(plans.plans(0).attention().SerializeAsString(), attention.SerializeAsString());
  EXPECT_EQ(plans.plans(0).mask_digest(), expert.mask_digest());
  EXPECT_EQ(plans.plans(0).expert(), expert.name());
  // The canonical spec is a request for the same expert.
  *request.mutable_spec() = expert.spec();
  request.set_cache_policy(v1::ONLY_IF_CACHED);
  EXPECT_EQ(live.Make(request).name(), expert.name());
  request.mutable_spec()->mutable_budget()->set_sigma(0.95);
  lro::Operation operation;
  const grpc::Status status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  EXPECT_THAT(status.error_message(), HasSubstr("query_key"));  // 8 pairs a KV head, 16 a layer
}

// Neurons and groups of one layer count are cut, compensated, verified and load with fewer heads.
TEST(CreateExpert, RemovesKvHeadGroupsWithNeurons) {
  LiveServer live;
  UploadLawCorpora(live);
  for (const v1::Shape shape : {v1::UNIFORM, v1::MASKED}) {
    v1::CreateExpertRequest request = LawRequest();
    request.mutable_spec()->set_rule(v1::SECOND_ORDER);
    request.mutable_spec()->set_shape(shape);
    request.mutable_spec()->add_units(v1::FFN_NEURON);
    request.mutable_spec()->add_units(v1::KV_HEAD_GROUP);
    request.mutable_spec()->set_kv_head_groups(1);
    const v1::Expert expert = live.Make(request);
    EXPECT_EQ(expert.size().kv_head_groups(), 1);
    EXPECT_EQ(expert.base_size().kv_head_groups(), 2);
    EXPECT_EQ(expert.size().kv_cache_bytes_per_token() * 2,
              expert.base_size().kv_cache_bytes_per_token());
    EXPECT_EQ(Sum(expert.attention().key_row_counts()), 3 * 16);
    EXPECT_EQ(Sum(expert.attention().query_row_counts()), 3 * 32);
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(expert.uri().substr(5)));
    if (shape == v1::UNIFORM) {
      EXPECT_EQ(folder->config().num_kv_heads, 1);
      EXPECT_EQ(folder->config().num_heads, 2);
      EXPECT_EQ(folder->config().head_dim, 16);
      EXPECT_EQ(CountParameters(folder->config()), expert.size().parameter_count());
    } else {
      EXPECT_EQ(folder->config().num_kv_heads, 2);
    }
    for (const v1::LayerCompensation& layer : expert.compensation().layers()) {
      EXPECT_GT(layer.plain_attention_error(), 0);
      EXPECT_LE(layer.attention_error(), layer.plain_attention_error());
    }
    // The canonical spec is a request for the same expert.
    *request.mutable_spec() = expert.spec();
    request.set_cache_policy(v1::ONLY_IF_CACHED);
    EXPECT_EQ(live.Make(request).name(), expert.name());
  }
}

// A size of the whole leaves it to relevance how many groups go; if none do, it is the expert that
// neurons alone make.
TEST(CreateExpert, WeighsNeuronsAgainstKvHeadGroupsWhereTheBudgetCountsParameters) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  v1::Budget& budget = *request.mutable_spec()->mutable_budget();
  budget.mutable_parameter_reduction()->set_value(0.1);
  const v1::Expert neurons = live.Make(request);
  request.mutable_spec()->add_units(v1::FFN_NEURON);
  request.mutable_spec()->add_units(v1::KV_HEAD_GROUP);
  const v1::Expert mixed = live.Make(request);
  // This model's groups matter more than what its neurons come to.
  EXPECT_EQ(mixed.size().kv_head_groups(), 2);
  EXPECT_EQ(mixed.name(), neurons.name());
  // What neurons alone cannot reach.
  budget.set_max_parameters(neurons.base_size().parameter_count() -
                            int64_t{3 * 3 * 64} * (neurons.base_size().width() - 16) - 1);
  lro::Operation operation;
  request.mutable_spec()->clear_units();
  EXPECT_THAT(live.Create(request, &operation),
              IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  request.mutable_spec()->add_units(v1::FFN_NEURON);
  request.mutable_spec()->add_units(v1::KV_HEAD_GROUP);
  EXPECT_EQ(live.Make(request).size().kv_head_groups(), 1);
}

TEST(CreateExpert, RemovesKvHeadGroupsAndRowsOfTheVocabularyTogether) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  for (const v1::UnitKind unit : {v1::FFN_NEURON, v1::KV_HEAD_GROUP, v1::VOCABULARY}) {
    request.mutable_spec()->add_units(unit);
  }
  request.mutable_spec()->set_kv_head_groups(1);
  const v1::Expert expert = live.Make(request);
  ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(expert.uri().substr(5)));
  EXPECT_EQ(folder->config().num_kv_heads, 1);
  EXPECT_EQ(folder->config().vocabulary_size, expert.size().vocabulary_size());
  EXPECT_EQ(CountParameters(folder->config()), expert.size().parameter_count());
  EXPECT_LE(expert.verification().max_logit_error(), 1e-5);
}

TEST(CreateExpert, RefusesNumbersOfKvHeadGroupsThatCannotBeHad) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->add_units(v1::FFN_NEURON);
  request.mutable_spec()->add_units(v1::KV_HEAD_GROUP);
  request.mutable_spec()->set_kv_head_groups(3);
  lro::Operation operation;
  const grpc::Status status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  EXPECT_THAT(status.error_message(), HasSubstr("1, 2"));
}

TEST(CreateExpert, ReportsTheSigmaThatCusPrunNeeds) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->set_rule(v1::CUS_PRUN);
  const v1::Expert expert = live.Make(request);
  EXPECT_GT(expert.sigma(), 0);
  request.mutable_spec()->mutable_budget()->set_sigma(expert.sigma());
  EXPECT_EQ(live.Make(request).name(), expert.name());
  request.mutable_spec()->mutable_budget()->set_sigma(1e-6);
  lro::Operation operation;
  grpc::Status status = live.Create(request, &operation);
  if (status.ok()) {
    operation = live.Wait(operation);
    ASSERT_TRUE(operation.has_error());
    EXPECT_EQ(ErrorOf(operation.error()).reason, "BUDGET_NOT_REACHABLE");
  } else {
    EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  }
}

}  // namespace
}  // namespace secateur
