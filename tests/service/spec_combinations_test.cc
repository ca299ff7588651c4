// What goes with what in an expert spec, and what its defaults are.
#include <functional>
#include <string>
#include <utility>

#include "server/base/errors.h"
#include "server/service/expert_spec.h"
#include "tests/service/plain_spec.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using v1::ExpertSpec;

TEST(ExpertSpec, AsksForTheBestQualityUnlessItSaysOtherwise) {
  ASSERT_OK_AND_ASSIGN(const ExpertRequest request, RequestFromProto(Plain(), kPositions, true));
  EXPECT_TRUE(request.second_order);
  EXPECT_EQ(request.compensation, Compensation::kLeastSquares);
  EXPECT_EQ(request.general_weight, 0.1);
}

void RemoveGroups(ExpertSpec& spec) {
  spec.add_units(v1::FFN_NEURON);
  spec.add_units(v1::KV_HEAD_GROUP);
}

// Neurons say nothing of groups: how many stay is asked for, or follows from a size of the whole.
TEST(ExpertSpec, NeedsANumberOfKvHeadGroupsWhereTheBudgetCountsNeurons) {
  ExpertSpec spec = Plain();
  RemoveGroups(spec);
  EXPECT_THAT(
      RequestFromProto(spec, kPositions, true),
      StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("spec.kv_head_groups")));
  spec.set_kv_head_groups(-1);
  EXPECT_THAT(
      RequestFromProto(spec, kPositions, true),
      StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("spec.kv_head_groups")));
  spec.set_kv_head_groups(2);
  EXPECT_OK(RequestFromProto(spec, kPositions, true));
  spec.set_rule(v1::LOG_MEAN);
  EXPECT_OK(RequestFromProto(spec, kPositions, true));
  spec.clear_kv_head_groups();
  spec.clear_rule();
  spec.mutable_budget()->mutable_parameter_reduction()->set_value(0.2);
  EXPECT_OK(RequestFromProto(spec, kPositions, true));
}

void Trim(ExpertSpec& spec) {
  spec.add_units(v1::FFN_NEURON);
  spec.add_units(v1::VOCABULARY);
}

void TrimAlone(ExpertSpec& spec) {
  spec.clear_budget();
  spec.add_units(v1::VOCABULARY);
}

TEST(ExpertSpec, OfTheVocabularyAloneNeedsNoBudget) {
  ExpertSpec spec = Plain();
  TrimAlone(spec);
  spec.set_source(v1::CELL);
  spec.mutable_target()->set_engine(v1::VLLM);
  spec.add_evaluation_corpora(CorpusName());
  ASSERT_OK_AND_ASSIGN(const ExpertRequest request, RequestFromProto(spec, kPositions, true));
  EXPECT_FALSE(request.second_order);
  EXPECT_EQ(request.compensation, Compensation::kNone);
  EXPECT_EQ(request.general_weight, 0);
  spec.set_vocabulary_size(-1);
  EXPECT_THAT(
      RequestFromProto(spec, kPositions, true),
      StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("spec.vocabulary_size")));
}

// A value is refused wherever it stands, whatever else is set.
TEST(ExpertSpec, IsRefusedForCombinationsThatHaveNoMeaning) {
  const std::pair<std::function<void(ExpertSpec&)>, std::string> cases[] = {
      {[](auto& s) { s.mutable_budget()->set_sigma(0.5); }, "spec.budget.sigma"},
      {[](auto& s) { s.mutable_target()->set_tensor_parallel_degree(2); },
       "spec.target.tensor_parallel_degree"},
      {[](auto& s) {
         s.mutable_target()->set_engine(v1::LLAMA_CPP);
         s.mutable_target()->set_tensor_parallel_degree(2);
       },
       "spec.target.tensor_parallel_degree"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.mutable_select(0)->set_weight(2);
       },
       "spec.select[0].weight"},
      {[](auto& s) {
         s.set_source(v1::CELL);
         s.mutable_select(0)->set_weight(2);
       },
       "spec.select[0].weight"},
      {[](auto& s) {
         s.set_rule(v1::SECOND_ORDER);
         s.set_compensation(v1::NONE);
       },
       "spec.compensation"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.set_compensation(v1::LEAST_SQUARES);
       },
       "spec.compensation"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.set_source(v1::BLEND);
       },
       "spec.source"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.set_general_weight(0.1);
       },
       "spec.general_weight"},
      {[](auto& s) { s.set_vocabulary_size(4096); }, "spec.vocabulary_size"},
      {[](auto& s) {
         Trim(s);
         s.set_shape(v1::MASKED);
       },
       "spec.shape"},
      {[](auto& s) {
         Trim(s);
         s.mutable_target()->set_engine(v1::LLAMA_CPP);
       },
       "spec.target.engine"},
      // With KV head groups.
      {[](auto& s) { s.set_kv_head_groups(2); }, "spec.kv_head_groups"},
      {[](auto& s) {
         RemoveGroups(s);
         s.set_compensation(v1::BIAS);
       },
       "spec.compensation"},
      {[](auto& s) {
         RemoveGroups(s);
         s.set_rule(v1::CUS_PRUN);
       },
       "spec.rule"},
      {[](auto& s) {
         RemoveGroups(s);
         s.set_rule(v1::LOG_MEAN);
         s.mutable_budget()->set_max_parameters(1000);
       },
       "spec.kv_head_groups"},
      // With channels of attention.
      {RemoveAttention, "spec.budget"},
      {[](auto& s) {
         RemoveAttention(s);
         s.mutable_budget()->set_width(64);
       },
       "spec.budget"},
      {[](auto& s) {
         RemoveAttention(s);
         s.mutable_budget()->set_sigma(0.5);
         s.set_rule(v1::RELATIVE_MEAN);
       },
       "spec.rule"},
      {[](auto& s) {
         RemoveAttention(s);
         s.mutable_budget()->set_sigma(0.5);
         s.set_shape(v1::UNIFORM);
       },
       "spec.shape"},
      {[](auto& s) {
         RemoveAttention(s);
         s.mutable_budget()->set_sigma(0.5);
         s.mutable_units()->RemoveLast();
         s.set_units(0, v1::ATTENTION_CHANNEL);
       },
       "spec.units"},
      {[](auto& s) {
         RemoveAttention(s);
         s.mutable_budget()->set_sigma(0.5);
         s.add_units(v1::VOCABULARY);
       },
       "spec.shape"},
      // Of the vocabulary alone.
      {[](auto& s) { s.add_units(v1::VOCABULARY); }, "spec.budget"},
      {[](auto& s) {
         TrimAlone(s);
         s.set_rule(v1::RELATIVE_MEAN);
       },
       "spec.rule"},
      {[](auto& s) {
         TrimAlone(s);
         s.set_general_weight(0);
       },
       "spec.general_weight"},
      {[](auto& s) {
         TrimAlone(s);
         s.set_compensation(v1::NONE);
       },
       "spec.compensation"},
      {[](auto& s) {
         TrimAlone(s);
         s.set_max_document_tokens(256);
       },
       "spec.max_document_tokens"},
      {[](auto& s) {
         TrimAlone(s);
         s.mutable_select(0)->set_weight(2);
       },
       "spec.select[0].weight"},
  };
  for (const auto& [set, path] : cases) {
    ExpertSpec spec = Plain();
    set(spec);
    const absl::Status status = RequestFromProto(spec, kPositions, true).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnimplemented, testing::HasSubstr(path)));
    EXPECT_EQ(NotesOf(status).field, path);
  }
}

}  // namespace
}  // namespace secateur
