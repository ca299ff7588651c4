#include "server/pipeline/compensate_expert.h"

#include "server/pipeline/build_profile.h"
#include "server/pipeline/compensation_text.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::Ge;
using testing::Le;

class CompensateExpertTest : public testing::Test {
 protected:
  CompensateExpertTest() {
    request_.compensation = Compensation::kLeastSquares;
    RunContext context;
    EXPECT_OK(BuildProfiles(*tiny_.model,
                            {stores_.Add({{"language", "en"}}, 20, "english"),
                             stores_.Add({{"text", "all"}}, 9, "all")},
                            {}, stores_.all(), context));
  }

  ComposedRequest Compose(const ExpertRequest& request) {
    const auto sources = ResolveSources(request, stores_.corpora);
    EXPECT_OK(sources);
    auto composed = ComposeRequest(*tiny_.model, request, *sources, stores_.all());
    EXPECT_OK(composed);
    return *std::move(composed);
  }

  PlannedExpert Plan(const ExpertRequest& request, const ComposedRequest& composed) {
    auto planned = PlanSize(*tiny_.model, request, composed, request.budget);
    EXPECT_OK(planned);
    return *std::move(planned);
  }

  v1::CompensationCost Cost(const ExpertRequest& request) {
    const ComposedRequest composed = Compose(request);
    return CostOfCompensation(*tiny_.model, request, composed, Plan(request, composed));
  }

  void Compensate(const ExpertRequest& request) {
    const ComposedRequest composed = Compose(request);
    RunContext context;
    EXPECT_OK(CompensateExpert(*tiny_.model, request, composed, Plan(request, composed),
                               stores_.all(), context));
  }

  const TinyResident tiny_;
  TestStores stores_;
  ExpertRequest request_ = RequestFor({{"language", {"en"}, 1}}, RelevanceSource::kCell);
};

TEST_F(CompensateExpertTest, TakesTheDiskThatThePlanSays) {
  ExpertRequest groups = request_;
  groups.kv_head_groups = true;
  groups.kept_kv_head_groups = 1;
  EXPECT_GT(Cost(groups).disk_bytes(), Cost(request_).disk_bytes());
  for (const ExpertRequest& request : {request_, groups}) {
    const int64_t before = stores_.measured.cost();  // in bytes on disk
    Compensate(request);
    EXPECT_EQ(stores_.measured.cost() - before, Cost(request).disk_bytes());
  }
}

TEST_F(CompensateExpertTest, RunsAboutAsMuchTextAsThePlanSays) {
  for (const double general_weight : {0.0, 0.1}) {
    request_.general_weight = general_weight;
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const CompensationText text,
                         ReadCompensationText(*tiny_.model, request_, Compose(request_).sources,
                                              stores_.all(), context));
    // Three bytes a token are a rule of thumb; the tiny tokenizer knows few more than bytes.
    EXPECT_THAT(Cost(request_).token_count(), AllOf(Ge(text.tokens() / 4), Le(text.tokens())));
  }
}

TEST_F(CompensateExpertTest, TakesMoreMemoryForMoreTextAndMoreCandidates) {
  const v1::CompensationCost plain = Cost(request_);
  const int64_t neurons = tiny_.model->config().intermediate_size;
  EXPECT_GE(plain.memory_bytes(), int64_t{sizeof(double)} * neurons * neurons);
  ExpertRequest general = request_, masked = request_, sequential = request_;
  general.general_weight = 0.1;
  masked.shape = Shape::kMasked;
  sequential.compensation = Compensation::kSequential;
  EXPECT_GT(Cost(general).token_count(), plain.token_count());
  for (const ExpertRequest& more : {general, masked, sequential}) {
    EXPECT_GT(Cost(more).memory_bytes(), plain.memory_bytes());
  }
}

// Weights that differ by less than six digits tell.
TEST_F(CompensateExpertTest, MeasuresTextOnceForEachWeight) {
  std::vector<int64_t> costs;
  for (const double general_weight : {0.1, 0.1, 0.1000001}) {
    request_.general_weight = general_weight;
    Compensate(request_);
    costs.push_back(stores_.measured.cost());
  }
  EXPECT_GT(costs[0], 0);
  EXPECT_EQ(costs[1], costs[0]);
  EXPECT_EQ(costs[2], 2 * costs[0]);
}

}  // namespace
}  // namespace secateur
