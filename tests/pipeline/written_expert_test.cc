// What an expert's manifest says of its size, and its rule of what goes, against the tensors that
// were written: every element is looked at.
#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "secateur/v1/manifest.pb.h"
#include "server/artifact/manifest.h"
#include "server/model/compute_threads.h"
#include "server/model/weights.h"
#include "server/pipeline/build_expert.h"
#include "server/storage/local_copy.h"
#include "tests/mask/pair_rows.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

constexpr int64_t kRows = 832;  // with pairs of letters, most of which no text here has

using Set = std::set<int64_t>;

std::vector<std::string> AllTinyModels() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

at::Tensor Values(const ModelFolder& folder, const std::string& name) {
  const auto view = folder.tensors().Find(name);
  EXPECT_OK(view);
  return LoadTensor(*view, Device{}).value();
}

// Rows or, with axis 1, columns in which anything stands.
int64_t CountFilled(const at::Tensor& matrix, int64_t axis) {
  return matrix.ne(0).any(/*dim=*/1 - axis).sum().item<int64_t>();
}

// Elements of a masked expert's tensor that zeros do not stand for. A bias goes with the rows of
// its weight.
int64_t CountKept(const ModelFolder& folder, const TensorInfo& info) {
  constexpr std::string_view kBias = ".bias";
  if (info.shape.size() == 1) {
    const at::Tensor values = Values(folder, info.name);
    if (!info.name.ends_with(kBias)) return values.numel();
    const std::string name = info.name.substr(0, info.name.size() - kBias.size());
    const at::Tensor weight = Values(folder, StrCat(name, ".weight"));
    EXPECT_FALSE(values.masked_select(weight.ne(0).any(1).logical_not()).any().item<bool>())
        << info.name << " has something where its weight has nothing";
    return CountFilled(weight, 0);
  }
  const at::Tensor values = Values(folder, info.name);
  const int64_t rows = CountFilled(values, 0), columns = CountFilled(values, 1);
  EXPECT_TRUE(rows == values.size(0) || columns == values.size(1)) << info.name;
  return rows * columns;
}

int64_t CountElements(const ModelFolder& folder) {
  int64_t elements = 0;
  for (const auto& [name, view] : folder.tensors().tensors()) {
    elements += static_cast<int64_t>(view.bytes.size()) / ItemSize(view.dtype);
  }
  return elements;
}

// The parameter is a tiny model.
class WrittenExpert : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    SetComputeThreads(1);  // tests share the machine
    TinyModel tiny = FindTinyModel(GetParam());
    tiny.config["vocab_size"] = kRows;
    ASSERT_OK(WriteTinyModel(tiny, folder_.path()));
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(folder_.path()));
    RunContext context;
    ASSERT_OK_AND_ASSIGN(model_, ResidentModel::Load("tiny", folder, Device{}, context));
    stores_.Add({{"language", "en"}}, 20, "orange trees");
    stores_.Add({{"domain", "law"}}, 12, "law");
  }

  bool HasGroups() const { return model_->config().num_kv_heads > 1; }
  bool TakesBiases() const { return !model_->config().post_norms; }

  // The expert is there until the next is built.
  void Build(const ExpertRequest& request) {
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const StoredExpert stored,
                         BuildExpert(*model_, request, {}, stores_.all(), context));
    ASSERT_OK_AND_ASSIGN(manifest_, ParseManifest(stored.manifest_json));
    local_.emplace(LocalCopy::Of(stores_.blobs, stored.prefix, context).value());
    ASSERT_OK_AND_ASSIGN(expert_, ModelFolder::Open(local_->path()));
  }

  // That the manifest speaks of `parameters`.
  void ExpectSize(int64_t parameters) const {
    const v1::Size& size = manifest_.size();
    EXPECT_EQ(size.parameter_count(), parameters);
    EXPECT_EQ(size.tensor_bytes(), parameters * StoredItemSize(model_->folder()));
    const int64_t base = CountElements(model_->folder());
    EXPECT_EQ(manifest_.base_size().parameter_count(), base);
    EXPECT_LT(parameters, base);
    EXPECT_NEAR(size.parameter_reduction(),
                1 - static_cast<double>(parameters) / static_cast<double>(base), 1e-12);
  }

  void ExpectElements(const ExpertRequest& request) {
    ASSERT_NO_FATAL_FAILURE(Build(request));
    ExpectSize(CountElements(*expert_));
  }

  void ExpectKeptElements(ExpertRequest request) {
    request.shape = Shape::kMasked;
    ASSERT_NO_FATAL_FAILURE(Build(request));
    int64_t kept = 0;
    for (const TensorInfo& info : expert_->table()) kept += CountKept(*expert_, info);
    ExpectSize(kept);
  }

  static ExpertRequest WithGroups(ExpertRequest request) {
    request.kv_head_groups = true;
    request.kept_kv_head_groups = 1;
    return request;
  }
  static ExpertRequest WithBiases(ExpertRequest request) {
    request.compensation = Compensation::kBias;
    return request;
  }
  static ExpertRequest Compensated(ExpertRequest request) {
    request.second_order = true;
    request.compensation = Compensation::kLeastSquares;
    return request;
  }
  static ExpertRequest Published(ExpertRequest request, double sigma) {
    request.rule = Rule::kCusPrun;
    request.shape = Shape::kMasked;
    request.attention_channels = true;
    request.source = RelevanceSource::kCompose;
    request.budget = Sigma{sigma};
    return request;
  }

  const TempDir folder_;
  std::shared_ptr<ResidentModel> model_;
  TestStores stores_;
  const ExpertRequest request_ = RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 1}});
  v1::Manifest manifest_;
  std::optional<LocalCopy> local_;
  std::shared_ptr<const ModelFolder> expert_;
};

TEST_P(WrittenExpert, HasAsManyParametersAsItsManifestSays) {
  ExpectElements(request_);
  ExpectElements(Compensated(request_));
  ExpertRequest trimmed = request_;
  trimmed.vocabulary = true;
  ExpectElements(trimmed);
  EXPECT_LT(manifest_.size().vocabulary_size(), kRows);
  if (HasGroups()) {
    ExpectElements(WithGroups(request_));
    EXPECT_EQ(manifest_.size().kv_head_groups(), 1);
    ExpectElements(WithGroups(trimmed));
  }
  if (TakesBiases()) ExpectElements(WithBiases(trimmed));
}

TEST_P(WrittenExpert, WithZerosHasAsManyOtherParametersAsItsManifestSays) {
  ExpectKeptElements(request_);
  ExpectKeptElements(Compensated(request_));
  if (HasGroups()) ExpectKeptElements(WithGroups(request_));
  if (TakesBiases()) ExpectKeptElements(WithBiases(request_));
  ExpectKeptElements(Published(request_, 0.6));
  EXPECT_GT(manifest_.size().neuron_ratio(), 0);
}

// Of one layer, the largest rank of each unit over all profiles, below sigma: irrelevant in every
// document of every dimension.
class StrictSets {
 public:
  StrictSets(const std::vector<Profile>& profiles, size_t layer, double sigma) : sigma_(sigma) {
    for (const Profile& profile : profiles) {
      const RelevanceView view = ViewOf(profile);
      Add(view.layers[layer].max_rank, neurons_);
      Add(view.attention[layer].query_key, pairs_);
      Add(view.attention[layer].value, value_);
      Add(view.attention[layer].output, output_);
    }
  }
  Set neurons() const { return Below(neurons_); }
  Set pairs() const { return Below(pairs_); }
  Set value() const { return Below(value_); }
  Set output() const { return Below(output_); }

 private:
  static void Add(const std::vector<uint16_t>& ranks, std::vector<uint16_t>& largest) {
    largest.resize(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) largest[i] = std::max(largest[i], ranks[i]);
  }
  Set Below(const std::vector<uint16_t>& largest) const {
    Set below;
    for (size_t i = 0; i < largest.size(); ++i) {
      if (largest[i] / static_cast<double>(largest.size()) < sigma_) {
        below.insert(static_cast<int64_t>(i));
      }
    }
    return below;
  }

  const double sigma_;
  std::vector<uint16_t> neurons_, pairs_, value_, output_;
};

// The rows (of biases their entries) or columns of a tensor that are to be zeros.
struct Zeros {
  int64_t axis = 0;
  Set units;
};

Zeros ZerosOf(TensorRole role, const StrictSets& sets, const ModelConfig& config) {
  switch (role) {
    case TensorRole::kGate:
    case TensorRole::kUp:
    case TensorRole::kGateBias:
    case TensorRole::kUpBias:
      return {0, sets.neurons()};
    case TensorRole::kDown:
      return {1, sets.neurons()};
    case TensorRole::kQuery:
    case TensorRole::kQueryBias:
      return {0, RowsOfPairs(sets.pairs(), config.num_heads, config)};
    case TensorRole::kKey:
    case TensorRole::kKeyBias:
      return {0, RowsOfPairs(sets.pairs(), config.num_kv_heads, config)};
    case TensorRole::kValue:
    case TensorRole::kValueBias:
      return {0, sets.value()};
    case TensorRole::kOutput:
      return {1, sets.output()};
    default:
      return {};
  }
}

TEST_P(WrittenExpert, AsPublishedIsItsBaseWithZerosInTheStrictSetsAlone) {
  constexpr double kSigma = 0.6;
  ASSERT_NO_FATAL_FAILURE(Build(Published(request_, kSigma)));
  std::vector<Profile> profiles;
  for (const ProfileInfo& info : stores_.profiles.List()) {
    profiles.push_back(stores_.profiles.Read(info.id()).value());
  }
  ASSERT_EQ(profiles.size(), 2U);
  std::map<TensorRole, size_t> zeros;
  for (const TensorInfo& info : model_->folder().table()) {
    at::Tensor wanted = Values(model_->folder(), info.name).clone();
    if (info.layer >= 0) {
      const StrictSets sets(profiles, static_cast<size_t>(info.layer), kSigma);
      const Zeros gone = ZerosOf(info.role, sets, model_->config());
      for (const int64_t unit : gone.units) wanted.select(gone.axis, unit).zero_();
      zeros[info.role] += gone.units.size();
    }
    EXPECT_TRUE(at::equal(Values(*expert_, info.name), wanted)) << info.name;
  }
  for (const TensorRole role :
       {TensorRole::kGate, TensorRole::kUp, TensorRole::kDown, TensorRole::kQuery, TensorRole::kKey,
        TensorRole::kValue, TensorRole::kOutput}) {
    EXPECT_GT(zeros[role], 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, WrittenExpert, testing::ValuesIn(AllTinyModels()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace secateur
