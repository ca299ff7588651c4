// Nothing in an expert spec is ignored: every field and every value of the API is in the table
// below as honoured or as refused. A field or value that is added to the protos fails this test
// until it is put there.
#include <functional>
#include <map>
#include <set>
#include <string>

#include "secateur/v1/resources.pb.h"
#include "server/base/errors.h"
#include "server/base/strings.h"
#include "server/service/expert_spec.h"
#include "server/service/validate.h"
#include "tests/service/plain_spec.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using v1::ExpertSpec;

struct Case {
  std::function<void(ExpertSpec&)> set;
  std::string refused;  // path of the refusal; empty: honoured
  // What of the request shows that it was honoured, other than that of Plain().
  std::function<bool(const ExpertRequest&)> honoured;
};

template <Statistic kStatistic>
bool HasStatistic(const ExpertRequest& request) {
  return request.rule == Rule::kMean && !request.second_order &&
         request.view.statistic == kStatistic;
}

template <class B>
bool HasBudget(const ExpertRequest& request) {
  const auto* budget = std::get_if<Budget>(&request.budget);
  return budget != nullptr && std::holds_alternative<B>(*budget);
}

// By "Message.field", and by "Enum.VALUE" for values; "" as `refused` means honoured.
const std::map<std::string, Case>& Cases() {
  static const auto& cases = *new std::map<std::string, Case>{
      {"ExpertSpec.select",
       {[](auto& s) { s.mutable_select(0)->set_key("domain"); }, "",
        [](auto& r) { return r.select[0].key == "domain"; }}},
      {"DimensionSelection.key",
       {[](auto& s) { s.mutable_select(0)->set_key("task"); }, "",
        [](auto& r) { return r.select[0].key == "task"; }}},
      {"DimensionSelection.values",
       {[](auto& s) { s.mutable_select(0)->add_values("de"); }, "",
        [](auto& r) { return r.select[0].values == std::vector<std::string>{"de", "en"}; }}},
      {"DimensionSelection.weight",
       {[](auto& s) { s.mutable_select(0)->set_weight(3); }, "",
        [](auto& r) { return r.select[0].weight == 3; }}},
      {"ExpertSpec.general_weight",
       {[](auto& s) { s.set_general_weight(0.5); }, "",
        [](auto& r) { return r.general_weight == 0.5; }}},
      {"ExpertSpec.rule",
       {[](auto& s) { s.set_rule(v1::CUS_PRUN); }, "",
        [](auto& r) { return r.rule == Rule::kCusPrun; }}},
      {"Rule.RELATIVE_MEAN",
       {[](auto& s) { s.set_rule(v1::RELATIVE_MEAN); }, "",
        [](auto& r) {
          return r.rule == Rule::kMean && !r.second_order &&
                 r.compensation == Compensation::kNone && r.general_weight == 0;
        }}},
      {"Rule.CUS_PRUN",
       {[](auto& s) { s.set_rule(v1::CUS_PRUN); }, "",
        [](auto& r) { return r.rule == Rule::kCusPrun; }}},
      {"Rule.SECOND_ORDER",
       {[](auto& s) { s.set_rule(v1::SECOND_ORDER); }, "",
        [](auto& r) {
          return r.second_order && r.compensation == Compensation::kLeastSquares &&
                 r.general_weight == 0.1;
        }}},
      {"Rule.PAPER_MEAN",
       {[](auto& s) { s.set_rule(v1::PAPER_MEAN); }, "", HasStatistic<Statistic::kPaper>}},
      {"Rule.LOG_MEAN",
       {[](auto& s) { s.set_rule(v1::LOG_MEAN); }, "", HasStatistic<Statistic::kLogRelative>}},
      {"Rule.RANK_MEAN",
       {[](auto& s) { s.set_rule(v1::RANK_MEAN); }, "", HasStatistic<Statistic::kRank>}},
      {"ExpertSpec.quantile",
       {[](auto& s) {
          s.set_rule(v1::CUS_PRUN);
          s.set_quantile(0.9);
        },
        "", [](auto& r) { return r.rule == Rule::kCusPrun && r.view.quantile == 0.9; }}},
      {"ExpertSpec.source",
       {[](auto& s) { s.set_source(v1::CELL); }, "",
        [](auto& r) { return r.source == RelevanceSource::kCell; }}},
      {"Source.AUTO",
       {[](auto& s) { s.set_source(v1::AUTO); }, "",
        [](auto& r) { return r.source == RelevanceSource::kAuto; }}},
      {"Source.CELL",
       {[](auto& s) { s.set_source(v1::CELL); }, "",
        [](auto& r) { return r.source == RelevanceSource::kCell; }}},
      {"Source.COMPOSE",
       {[](auto& s) { s.set_source(v1::COMPOSE); }, "",
        [](auto& r) { return r.source == RelevanceSource::kCompose; }}},
      {"Source.BLEND",
       {[](auto& s) { s.set_source(v1::BLEND); }, "",
        [](auto& r) { return r.source == RelevanceSource::kBlend; }}},
      {"ExpertSpec.budget",
       {[](auto& s) { s.mutable_budget()->set_neuron_ratio(0.5); }, "",
        [](auto& r) { return std::get<NeuronRatio>(std::get<Budget>(r.budget)).value == 0.5; }}},
      {"Budget.neuron_ratio",
       {[](auto& s) { s.mutable_budget()->set_neuron_ratio(0.5); }, "", HasBudget<NeuronRatio>}},
      {"Budget.parameter_reduction",
       {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_value(0.1); }, "",
        HasBudget<ParameterReduction>}},
      {"ParameterReduction.value",
       {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_value(0.2); }, "",
        [](auto& r) {
          return std::get<ParameterReduction>(std::get<Budget>(r.budget)).value == 0.2;
        }}},
      {"ParameterReduction.base",
       {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_base(v1::BLOCKS); },
        "",
        [](auto& r) {
          return std::get<ParameterReduction>(std::get<Budget>(r.budget)).of_blocks;
        }}},
      {"ParameterBase.TOTAL",
       {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_base(v1::TOTAL); }, "",
        [](auto& r) {
          return !std::get<ParameterReduction>(std::get<Budget>(r.budget)).of_blocks;
        }}},
      {"ParameterBase.BLOCKS",
       {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_base(v1::BLOCKS); },
        "",
        [](auto& r) {
          return std::get<ParameterReduction>(std::get<Budget>(r.budget)).of_blocks;
        }}},
      {"Budget.max_parameters",
       {[](auto& s) { s.mutable_budget()->set_max_parameters(1000); }, "",
        HasBudget<MaxParameters>}},
      {"Budget.max_bytes",
       {[](auto& s) { s.mutable_budget()->set_max_bytes(1000); }, "", HasBudget<MaxBytes>}},
      {"Budget.width", {[](auto& s) { s.mutable_budget()->set_width(64); }, "", HasBudget<Width>}},
      {"Budget.sigma",
       {[](auto& s) {
          s.mutable_budget()->set_sigma(0.5);
          s.set_rule(v1::CUS_PRUN);
        },
        "", [](auto& r) { return std::holds_alternative<Sigma>(r.budget); }}},
      {"ExpertSpec.shape", {[](auto& s) { s.set_shape(v1::PER_LAYER); }, "spec.shape", nullptr}},
      {"Shape.UNIFORM",
       {[](auto& s) { s.set_shape(v1::UNIFORM); }, "", [](auto&) { return true; }}},
      {"Shape.PER_LAYER", {[](auto& s) { s.set_shape(v1::PER_LAYER); }, "spec.shape", nullptr}},
      {"Shape.MASKED",
       {[](auto& s) { s.set_shape(v1::MASKED); }, "",
        [](auto& r) { return r.shape == Shape::kMasked; }}},
      {"ExpertSpec.units",
       {[](auto& s) { s.add_units(v1::KV_HEAD_GROUP); }, "spec.units", nullptr}},
      {"UnitKind.FFN_NEURON",
       {[](auto& s) { s.add_units(v1::FFN_NEURON); }, "", [](auto&) { return true; }}},
      {"UnitKind.KV_HEAD_GROUP",
       {[](auto& s) {
          s.add_units(v1::FFN_NEURON);
          s.add_units(v1::KV_HEAD_GROUP);
          s.mutable_budget()->set_max_parameters(1000);
        },
        "",
        [](auto& r) {
          return r.neurons && r.kv_head_groups && !r.attention_channels &&
                 r.kept_kv_head_groups == 0;
        }}},
      {"ExpertSpec.kv_head_groups",
       {[](auto& s) {
          s.add_units(v1::FFN_NEURON);
          s.add_units(v1::KV_HEAD_GROUP);
          s.set_kv_head_groups(2);
        },
        "", [](auto& r) { return r.kept_kv_head_groups == 2; }}},
      {"UnitKind.ATTENTION_CHANNEL",
       {[](auto& s) {
          RemoveAttention(s);
          s.mutable_budget()->set_sigma(0.5);
        },
        "",
        [](auto& r) { return r.neurons && r.attention_channels && r.shape == Shape::kMasked; }}},
      {"UnitKind.VOCABULARY",
       {[](auto& s) {
          s.add_units(v1::FFN_NEURON);
          s.add_units(v1::VOCABULARY);
        },
        "", [](auto& r) { return r.neurons && r.vocabulary && r.vocabulary_size == 0; }}},
      {"ExpertSpec.vocabulary_size",
       {[](auto& s) {
          s.clear_budget();
          s.add_units(v1::VOCABULARY);
          s.set_vocabulary_size(4096);
        },
        "", [](auto& r) { return !r.neurons && r.vocabulary && r.vocabulary_size == 4096; }}},
      {"ExpertSpec.compensation",
       {[](auto& s) { s.set_compensation(v1::NONE); }, "",
        [](auto& r) { return r.compensation == Compensation::kNone; }}},
      {"Compensation.NONE",
       {[](auto& s) { s.set_compensation(v1::NONE); }, "",
        [](auto& r) {
          return !r.second_order && r.compensation == Compensation::kNone && r.general_weight == 0;
        }}},
      {"Compensation.BIAS",
       {[](auto& s) { s.set_compensation(v1::BIAS); }, "",
        [](auto& r) { return !r.second_order && r.compensation == Compensation::kBias; }}},
      {"Compensation.LEAST_SQUARES",
       {[](auto& s) {
          s.set_rule(v1::RELATIVE_MEAN);
          s.set_compensation(v1::LEAST_SQUARES);
        },
        "",
        [](auto& r) { return r.compensation == Compensation::kLeastSquares && !r.second_order; }}},
      {"Compensation.SEQUENTIAL",
       {[](auto& s) { s.set_compensation(v1::SEQUENTIAL); }, "",
        [](auto& r) { return r.second_order && r.compensation == Compensation::kSequential; }}},
      {"ExpertSpec.target",
       {[](auto& s) { s.mutable_target()->set_engine(v1::LLAMA_CPP); }, "",
        [](auto& r) { return r.alignment == 256; }}},
      {"Target.engine",
       {[](auto& s) { s.mutable_target()->set_engine(v1::VLLM); }, "",
        [](auto& r) { return r.alignment == 64; }}},
      {"Engine.TRANSFORMERS",
       {[](auto& s) { s.mutable_target()->set_engine(v1::TRANSFORMERS); }, "",
        [](auto& r) { return r.alignment == 32; }}},
      {"Engine.VLLM",
       {[](auto& s) { s.mutable_target()->set_engine(v1::VLLM); }, "",
        [](auto& r) { return r.alignment == 64; }}},
      {"Engine.LLAMA_CPP",
       {[](auto& s) { s.mutable_target()->set_engine(v1::LLAMA_CPP); }, "",
        [](auto& r) { return r.alignment == 256; }}},
      {"Target.tensor_parallel_degree",
       {[](auto& s) {
          s.mutable_target()->set_engine(v1::VLLM);
          s.mutable_target()->set_tensor_parallel_degree(4);
        },
        "", [](auto& r) { return r.alignment == 256; }}},
      {"ExpertSpec.formats",
       {[](auto& s) { s.add_formats(v1::GGUF); }, "spec.formats[0]", nullptr}},
      {"Format.HUGGING_FACE",
       {[](auto& s) { s.add_formats(v1::HUGGING_FACE); }, "", [](auto&) { return true; }}},
      {"Format.GGUF", {[](auto& s) { s.add_formats(v1::GGUF); }, "spec.formats[0]", nullptr}},
      {"Format.MASK_ONLY",
       {[](auto& s) {
          s.add_formats(v1::HUGGING_FACE);
          s.add_formats(v1::MASK_ONLY);
        },
        "spec.formats[1]", nullptr}},
      {"ExpertSpec.max_document_tokens",
       {[](auto& s) { s.set_max_document_tokens(100); }, "",
        [](auto& r) { return r.max_document_tokens == 100; }}},
      {"ExpertSpec.evaluation_corpora",
       {[](auto& s) { s.add_evaluation_corpora(CorpusName()); }, "",
        [](auto& r) { return r.evaluation_corpora == std::vector{CorpusName().substr(8)}; }}},
  };
  return cases;
}

// Every "Message.field" and "Enum.VALUE" that can be reached from `message`; the zero of an enum is
// "not set", which Plain() covers.
void Walk(const Descriptor& message, std::set<std::string>& seen) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (!seen.insert(message.name() + "." + field.name()).second) continue;
    if (const EnumDescriptor* values = field.enum_type()) {
      for (int v = 0; v < values->value_count(); ++v) {
        if (values->value(v)->number() != 0) {
          seen.insert(values->name() + "." + values->value(v)->name());
        }
      }
    }
    if (field.message_type() != nullptr) Walk(*field.message_type(), seen);
  }
}

TEST(ExpertSpec, HasNoFieldOrValueThatIsNeitherHonouredNorRefused) {
  std::set<std::string> reachable, listed;
  Walk(*ExpertSpec::descriptor(), reachable);
  for (const auto& [name, test_case] : Cases()) listed.insert(name);
  EXPECT_EQ(listed, reachable);
}

TEST(ExpertSpec, IsHonouredOrRefusedFieldByFieldAndValueByValue) {
  ASSERT_OK(RequestFromProto(Plain(), kPositions, true));
  for (const auto& [name, test_case] : Cases()) {
    ExpertSpec spec = Plain();
    test_case.set(spec);
    EXPECT_OK(CheckAllFieldsKnown(spec)) << name;
    const auto request = RequestFromProto(spec, kPositions, true);
    if (test_case.refused.empty()) {
      ASSERT_OK(request) << name;
      EXPECT_TRUE(test_case.honoured(*request)) << name;
      continue;
    }
    EXPECT_THAT(request,
                StatusIs(absl::StatusCode::kUnimplemented, testing::HasSubstr(test_case.refused)))
        << name;
    EXPECT_EQ(NotesOf(request.status()).field, test_case.refused) << name;
    EXPECT_EQ(NotesOf(request.status()).reason, "NOT_HONOURED") << name;
  }
}

TEST(ExpertSpec, IsRefusedWithUnknownFieldsAndValuesAtAnyDepth) {
  const auto unknown = [](google::protobuf::Message* message) {
    message->GetReflection()->MutableUnknownFields(message)->AddVarint(900, 1);
  };
  const std::pair<std::function<void(ExpertSpec&)>, std::string> cases[] = {
      {[&](auto& s) { unknown(&s); }, "#900"},
      {[&](auto& s) { unknown(s.mutable_select(0)); }, "select[0].#900"},
      {[&](auto& s) { unknown(s.mutable_budget()); }, "budget.#900"},
      {[&](auto& s) { unknown(s.mutable_budget()->mutable_parameter_reduction()); },
       "budget.parameter_reduction.#900"},
      {[&](auto& s) { unknown(s.mutable_target()); }, "target.#900"},
      {[](auto& s) { s.set_rule(static_cast<v1::Rule>(77)); }, "rule"},
      {[](auto& s) { s.mutable_target()->set_engine(static_cast<v1::Engine>(-1)); },
       "target.engine"},
      {[](auto& s) {
         s.add_units(v1::FFN_NEURON);
         s.add_units(static_cast<v1::UnitKind>(77));
       },
       "units[1]"},
  };
  for (const auto& [set, path] : cases) {
    ExpertSpec spec = Plain();
    set(spec);
    const absl::Status status = CheckAllFieldsKnown(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << path;
    EXPECT_EQ(NotesOf(status).field, path);
    EXPECT_EQ(NotesOf(status).reason, "NOT_HONOURED");
  }
}

}  // namespace
}  // namespace secateur
