#include "server/service/validate.h"
#include "server/service/expert_spec.h"

#include <functional>
#include <limits>
#include <string>

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using v1::ExpertSpec;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

ExpertSpec Plain() {
  ExpertSpec spec;
  spec.add_select()->set_key("language");
  spec.mutable_select(0)->add_values("en");
  spec.mutable_budget()->set_neuron_ratio(0.25);
  return spec;
}

TEST(RequestFromProto, NamesTheFieldOfWhatIsMalformed) {
  const std::pair<std::function<void(ExpertSpec&)>, std::string> cases[] = {
      {[](auto& s) { s.clear_select(); }, "spec.select"},
      {[](auto& s) {
         for (int i = 0; i < 8; ++i) {
           s.add_select()->set_key("k" + std::to_string(i));
           s.mutable_select(i + 1)->add_values("v");
         }
       },
       "spec.select"},
      {[](auto& s) { *s.add_select() = s.select(0); }, "spec.select"},
      {[](auto& s) { s.mutable_select(0)->set_key(""); }, "spec.select[0].key"},
      {[](auto& s) { s.mutable_select(0)->set_key("Language"); }, "spec.select[0].key"},
      {[](auto& s) { s.mutable_select(0)->set_key(std::string(64, 'a')); }, "spec.select[0].key"},
      {[](auto& s) { s.mutable_select(0)->clear_values(); }, "spec.select[0].values"},
      {[](auto& s) { s.mutable_select(0)->add_values("de fr"); }, "spec.select[0].values"},
      {[](auto& s) { s.mutable_select(0)->add_values("en"); }, "spec.select[0].values"},
      {[](auto& s) {
         for (int i = 0; i < 64; ++i) s.mutable_select(0)->add_values("v" + std::to_string(i));
       },
       "spec.select[0].values"},
      {[](auto& s) { s.mutable_select(0)->set_weight(-1); }, "spec.select[0].weight"},
      {[](auto& s) { s.mutable_select(0)->set_weight(kNan); }, "spec.select[0].weight"},
      {[](auto& s) { s.mutable_select(0)->set_weight(kInfinity); }, "spec.select[0].weight"},
      {[](auto& s) { s.clear_budget(); }, "spec.budget"},
      {[](auto& s) { s.mutable_budget()->Clear(); }, "spec.budget"},
      {[](auto& s) { s.mutable_budget()->set_neuron_ratio(-0.1); }, "spec.budget.neuron_ratio"},
      {[](auto& s) { s.mutable_budget()->set_neuron_ratio(1); }, "spec.budget.neuron_ratio"},
      {[](auto& s) { s.mutable_budget()->set_neuron_ratio(35); }, "spec.budget.neuron_ratio"},
      {[](auto& s) { s.mutable_budget()->set_neuron_ratio(kNan); }, "spec.budget.neuron_ratio"},
      {[](auto& s) { s.mutable_budget()->mutable_parameter_reduction()->set_value(1); },
       "spec.budget.parameter_reduction.value"},
      {[](auto& s) { s.mutable_budget()->set_max_parameters(0); }, "spec.budget.max_parameters"},
      {[](auto& s) { s.mutable_budget()->set_max_bytes(-5); }, "spec.budget.max_bytes"},
      {[](auto& s) { s.mutable_budget()->set_width(0); }, "spec.budget.width"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.mutable_budget()->set_sigma(1.01);
       },
       "spec.budget.sigma"},
      {[](auto& s) {
         s.set_rule(v1::CUS_PRUN);
         s.mutable_budget()->set_sigma(kNan);
       },
       "spec.budget.sigma"},
      {[](auto& s) { s.add_units(v1::UNIT_KIND_UNSPECIFIED); }, "spec.units[0]"},
      {[](auto& s) { s.add_formats(v1::FORMAT_UNSPECIFIED); }, "spec.formats[0]"},
      {[](auto& s) { s.mutable_target()->set_tensor_parallel_degree(-1); },
       "spec.target.tensor_parallel_degree"},
      {[](auto& s) { s.mutable_target()->set_tensor_parallel_degree(65); },
       "spec.target.tensor_parallel_degree"},
      {[](auto& s) { s.set_max_document_tokens(1); }, "spec.max_document_tokens"},
      {[](auto& s) { s.set_max_document_tokens(2049); }, "spec.max_document_tokens"},
      {[](auto& s) { s.set_max_document_tokens(-1); }, "spec.max_document_tokens"},
      {[](auto& s) { s.add_evaluation_corpora("c1"); }, "spec.evaluation_corpora[0]"},
      {[](auto& s) {
         for (int i = 0; i < 33; ++i) s.add_evaluation_corpora("corpora/c" + std::string(40, 'a'));
       },
       "spec.evaluation_corpora"},
  };
  for (const auto& [set, path] : cases) {
    ExpertSpec spec = Plain();
    set(spec);
    const absl::Status status = RequestFromProto(spec, 2048, true).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)));
    EXPECT_EQ(NotesOf(status).field, path);
  }
}

TEST(RequestFromProto, IsTheSameForEqualRequestsInAnyOrder) {
  ExpertSpec spec = Plain();
  spec.add_select()->set_key("domain");
  for (const char* value : {"law", "art"}) spec.mutable_select(1)->add_values(value);
  for (const char c : {'b', 'a', 'b'}) {
    spec.add_evaluation_corpora("corpora/c" + std::string(40, c));
  }
  ASSERT_OK_AND_ASSIGN(const ExpertRequest request, RequestFromProto(spec, 2048, true));
  ASSERT_EQ(request.select.size(), 2U);
  EXPECT_EQ(request.select[0].key, "domain");
  EXPECT_EQ(request.select[0].values, (std::vector<std::string>{"art", "law"}));
  EXPECT_EQ(request.select[1].weight, 1);
  EXPECT_EQ(request.evaluation_corpora,
            (std::vector<std::string>{"c" + std::string(40, 'a'), "c" + std::string(40, 'b')}));
  EXPECT_EQ(request.max_document_tokens, 512);
  ASSERT_OK_AND_ASSIGN(const ExpertRequest small, RequestFromProto(spec, 128, true));
  EXPECT_EQ(small.max_document_tokens, 128);
  spec.clear_budget();
  EXPECT_OK(RequestFromProto(spec, 2048, false));
}

TEST(CheckRequestId, TakesPrintableAsciiOnly) {
  EXPECT_OK(CheckRequestId(""));
  EXPECT_OK(CheckRequestId("7c9e6679-7425-40de-944b-e07fc1f90ae7"));
  EXPECT_OK(CheckRequestId(std::string(64, '~')));
  for (const std::string& id : {std::string(65, 'a'), std::string("a b"), std::string("a\n"),
                                std::string("\xc3\xa9"), std::string("a\0", 2)}) {
    const absl::Status status = CheckRequestId(id);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << id;
    EXPECT_EQ(NotesOf(status).field, "request_id");
  }
}

TEST(ParseCorpusFilter, ReadsLabelsAndPurposeJoinedByAnd) {
  ASSERT_OK_AND_ASSIGN(const CorpusFilter all, ParseCorpusFilter("  ", "filter"));
  EXPECT_TRUE(all.labels.empty());
  EXPECT_FALSE(all.purpose.has_value());
  ASSERT_OK_AND_ASSIGN(
      const CorpusFilter filter,
      ParseCorpusFilter(R"( labels.language="en" AND labels.d.x = "a-b_c" AND purpose=EVALUATION)",
                        "filter"));
  EXPECT_EQ(filter.labels, (Labels{{"language", "en"}, {"d.x", "a-b_c"}}));
  EXPECT_EQ(filter.purpose, CorpusPurpose::kEvaluation);
}

TEST(ParseCorpusFilter, RefusesWhatItWouldHaveToGuess) {
  for (const std::string& filter :
       {std::string("language = \"en\""), std::string("labels.language = en"),
        std::string("labels.language"), std::string("labels. = \"en\""),
        std::string("labels.language = \"en\" OR purpose = CALIBRATION"),
        std::string("labels.language = \"en\" AND"), std::string("AND"),
        std::string("labels.language = \"en"), std::string("labels.language != \"en\""),
        std::string("purpose = calibration"), std::string("purpose = \"CALIBRATION\""),
        std::string("labels.language = \"en\" AND labels.language = \"de\""),
        std::string("purpose = CALIBRATION AND purpose = EVALUATION"),
        std::string(5000, ' ') + "x"}) {
    const absl::Status status = ParseCorpusFilter(filter, "filter").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << filter;
    EXPECT_EQ(NotesOf(status).field, "filter") << filter;
  }
}

TEST(CorpusFromProto, NamesTheFieldOfWhatIsMalformed) {
  v1::Corpus corpus;
  (*corpus.mutable_labels())["language"] = "en";
  corpus.set_display_name(std::string(256, 'x'));
  corpus.set_purpose(v1::EVALUATION);
  ASSERT_OK_AND_ASSIGN(const CorpusInfo info, CorpusFromProto(corpus));
  EXPECT_EQ(info.purpose, CorpusPurpose::kEvaluation);
  EXPECT_EQ(info.labels.at("language"), "en");
  corpus.set_display_name(std::string(257, 'x'));
  EXPECT_EQ(NotesOf(CorpusFromProto(corpus).status()).field, "corpus.display_name");
  (*corpus.mutable_labels())["language"] = "";
  EXPECT_EQ(NotesOf(CorpusFromProto(corpus).status()).field, "corpus.labels");
  corpus.Clear();
  for (int i = 0; i < 33; ++i) (*corpus.mutable_labels())["k" + std::to_string(i)] = "v";
  EXPECT_THAT(CorpusFromProto(corpus), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace secateur
