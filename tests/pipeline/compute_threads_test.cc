// What goes does not depend on how many threads compute: sums may differ in their last bits from
// one number of threads to another, and only neurons that are as close as that to the cut may be
// chosen differently.
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "server/compensate/measured_text.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/compensation_text.h"
#include "server/pipeline/plan_expert.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

constexpr double kClose = 1e-6;  // relative to the scores at the cut

// A model that gives each thread more to sum.
constexpr char kWide[] = "wide";

TinyModel ModelNamed(const std::string& name) {
  TinyModel model = FindTinyModel(name == kWide ? "llama_mha" : name);
  if (name == kWide) {
    model.config["hidden_size"] = 512;
    model.config["intermediate_size"] = 1536;
  }
  return model;
}

struct PlannedMask {
  RemovalOrder order;
  Mask mask;
};

// Profiles two corpora with `threads` threads, and plans to keep `width` neurons of each layer.
class Planner {
 public:
  Planner(const std::string& model, int threads) : tiny_(ModelNamed(model), threads) {
    EXPECT_EQ(at::get_num_threads(), threads);
    const std::vector<CorpusInfo> corpora = {stores_.Add({{"language", "en"}}, 24, "english"),
                                             stores_.Add({{"domain", "law"}}, 12, "law")};
    RunContext context;
    EXPECT_OK(BuildProfiles(*tiny_.model, corpora, {}, stores_.all(), context));
  }

  PlannedMask Plan(ExpertRequest request, int64_t width) {
    request.budget = Budget(Width{width});
    const auto sources = ResolveSources(request, stores_.corpora);
    EXPECT_OK(sources);
    auto composed = ComposeRequest(*tiny_.model, request, *sources, stores_.all());
    EXPECT_OK(composed);
    auto planned = PlanSize(*tiny_.model, request, *composed, request.budget);
    EXPECT_OK(planned);
    return {std::move(composed->order), std::move(planned->mask)};
  }

  // In which order neurons of each layer go by second order, and what that costs.
  std::vector<RemovalCurve> Curves(const ExpertRequest& request) {
    const auto sources = ResolveSources(request, stores_.corpora);
    EXPECT_OK(sources);
    RunContext context;
    auto text = ReadCompensationText(*tiny_.model, request, *sources, stores_.all(), context);
    EXPECT_OK(text);
    const auto measured = MeasuredText::Measure(tiny_.model->transformer(), *std::move(text),
                                                {.orders = true}, context);
    EXPECT_OK(measured);
    return (*measured)->curves();
  }

 private:
  const TinyResident tiny_;
  TestStores stores_;
};

double RelevanceOf(uint32_t key) {
  return static_cast<double>(std::bit_cast<float>(key & 0x7FFF'FFFFu));
}

// Channels that rounding could move across the cut at `width`: none, unless the last that goes and
// the first that stays are alike.
std::set<int32_t> CloseToTheCut(const std::vector<uint32_t>& keys, int64_t width) {
  std::vector<uint32_t> sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  const size_t removed = keys.size() - static_cast<size_t>(width);
  const double cut = (RelevanceOf(sorted[removed - 1]) + RelevanceOf(sorted[removed])) / 2;
  std::set<int32_t> close;
  for (size_t k = 0; k < keys.size(); ++k) {
    if (std::abs(RelevanceOf(keys[k]) - cut) <= kClose * cut) close.insert(static_cast<int32_t>(k));
  }
  return close;
}

std::vector<int32_t> Without(const std::vector<int32_t>& kept, const std::set<int32_t>& some) {
  std::vector<int32_t> rest;
  std::copy_if(kept.begin(), kept.end(), std::back_inserter(rest),
               [&](int32_t channel) { return !some.contains(channel); });
  return rest;
}

std::set<int32_t> FirstOf(const RemovalCurve& curve, size_t count) {
  return {curve.order.begin(), curve.order.begin() + static_cast<std::ptrdiff_t>(count)};
}

class ComputeThreads : public testing::TestWithParam<std::string> {
 protected:
  ~ComputeThreads() override { SetComputeThreads(1); }  // tests share the machine
};

TEST_P(ComputeThreads, OneAndTwoRemoveTheSameNeuronsByEveryMean) {
  Planner one(GetParam(), 1), two(GetParam(), 2);
  ExpertRequest request =
      RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 2}}, RelevanceSource::kCompose);
  int layers = 0, decided = 0;
  for (const Statistic statistic :
       {Statistic::kRelative, Statistic::kPaper, Statistic::kLogRelative}) {
    request.view.statistic = statistic;
    for (const int64_t width : {32, 64, 96}) {
      const PlannedMask first = one.Plan(request, width), second = two.Plan(request, width);
      for (size_t l = 0; l < first.mask.kept.size(); ++l) {
        const std::set<int32_t> close = CloseToTheCut(first.order.layers[l], width);
        EXPECT_EQ(Without(first.mask.kept[l], close), Without(second.mask.kept[l], close))
            << "statistic " << static_cast<int>(statistic) << ", width " << width << ", layer "
            << l;
        ++layers;
        decided += close.empty();
      }
    }
  }
  EXPECT_GE(decided, layers - 1);  // or there was little to compare
}

// A rank moves by one where two scores are alike, so nothing is close to a cut by ranks; in tiny
// models no two scores are.
TEST_P(ComputeThreads, OneAndTwoRankAlikeForThePublishedRule) {
  Planner one(GetParam(), 1), two(GetParam(), 2);
  ExpertRequest request = RequestFor({{"language", {"en"}, 1}}, RelevanceSource::kCell);
  request.rule = Rule::kCusPrun;
  const PlannedMask first = one.Plan(request, 64), second = two.Plan(request, 64);
  EXPECT_EQ(first.order.layers, second.order.layers);
  EXPECT_EQ(first.mask.kept, second.mask.kept);
}

// Rounding could only exchange neurons that are alike, and no two of these are; those of one step
// go together, in whatever order.
TEST_P(ComputeThreads, OneAndTwoRemoveTheSameNeuronsBySecondOrder) {
  Planner one(GetParam(), 1), two(GetParam(), 2);
  const ExpertRequest request =
      RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 2}}, RelevanceSource::kCompose);
  const std::vector<RemovalCurve> first = one.Curves(request), second = two.Curves(request);
  ASSERT_EQ(first.size(), second.size());
  for (size_t l = 0; l < first.size(); ++l) {
    ASSERT_EQ(first[l].order.size(), second[l].order.size());
    for (size_t removed = 0; removed < first[l].order.size(); removed += kRemovalStep) {
      EXPECT_EQ(FirstOf(first[l], removed), FirstOf(second[l], removed))
          << "layer " << l << ", " << removed << " removed";
      const double error = first[l].error[removed / kRemovalStep];
      EXPECT_NEAR(second[l].error[removed / kRemovalStep], error, 1e-4 * error);
    }
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names = {kWide};
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(EachModel, ComputeThreads, testing::ValuesIn(Names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace secateur
