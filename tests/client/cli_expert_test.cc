// secateur expert ...
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "tests/client/cli_long_work.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using ExpertCliTest = LongWorkCliTest;

TEST_F(ExpertCliTest, MakesTheSpecThatTheOptionsDescribe) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--language", "ko", "--domain", "legal", "--task", "qa", "--remove", "35%"},
       R"(select { key: "language" values: "ko" } select { key: "domain" values: "legal" }
          select { key: "task" values: "qa" } budget { neuron_ratio: 0.35 })"},
      {{"--language", "ko", "--language", "ja", "--select", "era=1900s", "--select", "language=zh",
        "--weight", "language=2.5", "--width", "1024"},
       R"(select { key: "language" values: "ko" values: "ja" values: "zh" weight: 2.5 }
          select { key: "era" values: "1900s" } budget { width: 1024 })"},
      {{"--task", "qa", "--remove-parameters", "20%", "--of", "blocks", "--rule", "relative-mean",
        "--source", "compose"},
       R"(select { key: "task" values: "qa" } rule: RELATIVE_MEAN source: COMPOSE
          budget { parameter_reduction { value: 0.2 base: BLOCKS } })"},
      {{"--task", "qa", "--remove-parameters", "20%"},
       R"(select { key: "task" values: "qa" } budget { parameter_reduction { value: 0.2 } })"},
      {{"--task", "qa", "--max-parameters", "100M", "--target", "vllm", "--tensor-parallel", "2"},
       R"(select { key: "task" values: "qa" } budget { max_parameters: 100000000 }
          target { engine: VLLM tensor_parallel_degree: 2 })"},
      {{"--task", "qa", "--max-bytes", "250MiB", "--target", "llama-cpp", "--evaluate", "c1",
        "--evaluate", "corpora/c2"},
       R"(select { key: "task" values: "qa" } budget { max_bytes: 262144000 }
          target { engine: LLAMA_CPP } evaluation_corpora: "corpora/c1"
          evaluation_corpora: "corpora/c2")"},
      {{"--task", "qa", "--rule", "cus-prun", "--sigma", "0.9", "--max-document-tokens", "256"},
       R"(select { key: "task" values: "qa" } rule: CUS_PRUN budget { sigma: 0.9 }
          max_document_tokens: 256)"},
      {{"--task", "qa", "--rule", "cus-prun", "--sigma", "0.9", "--shape", "masked", "--attention"},
       R"(select { key: "task" values: "qa" } rule: CUS_PRUN shape: MASKED budget { sigma: 0.9 }
          units: FFN_NEURON units: ATTENTION_CHANNEL)"},
      {{"--task", "qa", "--remove", "20%", "--kv-head-groups", "2"},
       R"(select { key: "task" values: "qa" } budget { neuron_ratio: 0.2 } units: FFN_NEURON
          units: KV_HEAD_GROUP kv_head_groups: 2)"},
      {{"--task", "qa", "--max-parameters", "100M", "--kv-head-groups", "auto"},
       R"(select { key: "task" values: "qa" } budget { max_parameters: 100000000 }
          units: FFN_NEURON units: KV_HEAD_GROUP)"},
      {{"--task", "qa", "--trim-vocabulary"},
       R"(select { key: "task" values: "qa" } units: VOCABULARY)"},
      {{"--task", "qa", "--remove", "35%", "--trim-vocabulary"},
       R"(select { key: "task" values: "qa" } budget { neuron_ratio: 0.35 } units: FFN_NEURON
          units: VOCABULARY)"},
      {{"--task", "qa", "--vocabulary-size", "65536"},
       R"(select { key: "task" values: "qa" } units: VOCABULARY vocabulary_size: 65536)"},
  };
  for (const auto& [options, spec] : cases) {
    std::vector<std::string> args = {"expert", "create", "--no-wait"};
    args.insert(args.end(), options.begin(), options.end());
    EXPECT_EQ(Run(args), kOk) << err_;
    EXPECT_EQ(server_.secateur.expert_request.parent(), "models/m");
    ExpectSame(server_.secateur.expert_request.spec(), FromText<v1::ExpertSpec>(spec));
  }
}

TEST_F(ExpertCliTest, TellsWhatCompensationWillTake) {
  server_.secateur.plan = FromText<v1::PlanExpertResponse>(R"(
      plans { budget { width: 100 } size { width: 100 }
              compensation_cost { token_count: 12000 memory_bytes: 268435456 disk_bytes: 1073741824 } })");
  EXPECT_EQ(Run({"expert", "plan", "--task", "qa", "--width", "100"}), kOk) << err_;
  EXPECT_THAT(out_,
              HasSubstr("about 12.0k tokens, 256 MiB of memory, 1.00 GiB of temporary files"));
}

TEST_F(ExpertCliTest, TellsWhatASizeTakesOfAttention) {
  server_.secateur.plan = FromText<v1::PlanExpertResponse>(R"(
      plans { budget { sigma: 0.5 } size { width: 100 }
              attention { query_row_counts: 4 key_row_counts: 2 value_row_counts: 1
                          output_column_counts: 3 } })");
  EXPECT_EQ(Run({"expert", "plan", "--task", "qa", "--rule", "cus-prun", "--sigma", "0.5",
                 "--shape", "masked", "--attention"}),
            kOk)
      << err_;
  EXPECT_THAT(out_, HasSubstr("sigma 0.5 takes 4 rows of q_proj, 2 of k_proj, 1 of v_proj, 3 "
                              "columns of o_proj"));
}

TEST_F(ExpertCliTest, TellsWhatIsRemovedOfAttention) {
  v1::Expert expert = TheExpert();
  for (const int64_t rows : {6, 4}) {
    expert.mutable_attention()->add_query_row_counts(2 * rows);
    expert.mutable_attention()->add_key_row_counts(rows);
    expert.mutable_attention()->add_value_row_counts(1);
    expert.mutable_attention()->add_output_column_counts(rows + 1);
  }
  server_.secateur.experts = {expert};
  EXPECT_EQ(Run({"expert", "get", expert.name()}), kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("20 rows of q_proj, 10 of k_proj, 2 of v_proj, 12 columns of "
                              "o_proj"));
}

TEST_F(ExpertCliTest, TellsWhatATrimmedVocabularyKeepsAndCosts) {
  v1::Expert expert = TheExpert();
  expert.mutable_spec()->clear_rule();
  expert.mutable_size()->set_vocabulary_size(94'528);
  expert.mutable_base_size()->set_vocabulary_size(262'144);
  expert.mutable_vocabulary()->set_text_rows(18'372);
  expert.mutable_vocabulary()->set_split_token_share(0.00087);
  expert.mutable_evaluations(0)->set_token_count(4000);
  expert.mutable_evaluations(0)->set_expert_token_count(4010);
  Operation end;
  end.set_name(kOperation);
  end.set_done(true);
  end.mutable_response()->PackFrom(expert);
  EndWith(end);
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--trim-vocabulary"}), kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("94528 of 262144 tokens: 18372 are the text's; 0.09% of held-out "
                              "tokens fall apart"));
  EXPECT_THAT(out_, HasSubstr("corpora/ce takes +0.25% tokens of the trimmed vocabulary (4000 to "
                              "4010)"));
  EXPECT_THAT(out_, Not(HasSubstr("rule")));
}

TEST_F(ExpertCliTest, PassesTheOptionsOfTheRequest) {
  EXPECT_EQ(Run({"expert",          "create",
                 "--model",         "big",
                 "--task",          "qa",
                 "--remove",        "0.1",
                 "--output-uri",    "file:/out",
                 "--request-id",    "r1",
                 "--validate-only", "--cache-policy",
                 "only-if-cached",  "--no-wait",
                 "--gate",          "20%",
                 "--gate",          "c1=0.05",
                 "--gate",          "corpora/c2=150%"}),
            kOk);
  const v1::CreateExpertRequest& request = server_.secateur.expert_request;
  EXPECT_EQ(request.parent(), "models/big");
  EXPECT_EQ(request.output_uri(), "file:/out");
  EXPECT_EQ(request.request_id(), "r1");
  EXPECT_TRUE(request.validate_only());
  EXPECT_EQ(request.cache_policy(), v1::ONLY_IF_CACHED);
  ASSERT_EQ(request.gate_size(), 3);
  ExpectSame(request.gate(0), FromText<v1::GateEntry>("max_rise: 0.2"));
  ExpectSame(request.gate(1), FromText<v1::GateEntry>("corpus: 'corpora/c1' max_rise: 0.05"));
  ExpectSame(request.gate(2), FromText<v1::GateEntry>("corpus: 'corpora/c2' max_rise: 1.5"));
}

TEST_F(ExpertCliTest, AsksForALifeAndShowsWhenItEnds) {
  EXPECT_EQ(
      Run({"expert", "create", "--task", "qa", "--remove", "0.1", "--no-wait", "--ttl", "36h"}),
      kOk)
      << err_;
  EXPECT_EQ(server_.secateur.expert_request.ttl().seconds(), 36 * 3600);
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "0.1", "--no-wait",
                 "--expire-time", "2026-12-31T23:59:59Z"}),
            kOk)
      << err_;
  EXPECT_EQ(server_.secateur.expert_request.expire_time().seconds(), 1'798'761'599);
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "0.1", "--no-wait"}), kOk);
  EXPECT_EQ(server_.secateur.expert_request.expiration_case(),
            v1::CreateExpertRequest::EXPIRATION_NOT_SET);
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "0.1", "--ttl", "1h",
                 "--expire-time", "2026-12-31T23:59:59Z"}),
            kUsage);
  v1::Expert expert = TheExpert();
  expert.mutable_expire_time()->set_seconds(1'798'761'599);
  server_.secateur.experts = {expert};
  EXPECT_EQ(Run({"expert", "get", expert.name()}), kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("expires   2026-12-31T23:59:59Z"));
  EXPECT_EQ(Run({"expert", "list"}), kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("relative-mean  2026-12-31T23:59:59Z"));
  server_.secateur.experts = {TheExpert()};
  EXPECT_EQ(Run({"expert", "get", expert.name()}), kOk) << err_;
  EXPECT_THAT(out_, Not(HasSubstr("expires")));
}

TEST_F(ExpertCliTest, PlansSeveralSizes) {
  server_.secateur.plan = FromText<v1::PlanExpertResponse>(R"(
      plans { budget { neuron_ratio: 0.2 } size { width: 1216 neuron_ratio: 0.208 }
              base_size { width: 1536 parameter_count: 134515008 } source: CELL
              source_reason: "32 documents carry every label" document_count: 32
              corpora: "corpora/c1" engines { engine: TRANSFORMERS loads: true }
              engines { engine: VLLM reason: "1216 is no multiple of 128" }
              expert: "models/m/experts/e1" expert_exists: true
              protected_neuron_counts: [ 0, 4, 1 ]
              convergence { split_half_agreement: 0.75 agreement: 0.84 document_count: 32 } }
      plans { convergence { split_half_agreement: 0.6 agreement: 0.7 document_count: 32
                            advice: "add 20 more" }
              budget { max_parameters: 100000000 } size { width: 992 neuron_ratio: 0.354 } })");
  EXPECT_EQ(Run({"expert", "plan", "--task", "qa", "--remove", "20%", "--remove", "35%",
                 "--max-parameters", "100M", "--width", "64", "--width", "96"}),
            kOk);
  ExpectSame(server_.secateur.plan_request, FromText<v1::PlanExpertRequest>(R"(
      parent: "models/m" spec { select { key: "task" values: "qa" } }
      budgets { neuron_ratio: 0.2 } budgets { neuron_ratio: 0.35 }
      budgets { max_parameters: 100000000 } budgets { width: 64 } budgets { width: 96 })"));
  EXPECT_THAT(out_,
              AllOf(HasSubstr("cell: 32 documents carry every label"), HasSubstr("remove 20.0%  "),
                    HasSubstr("1216   20.8%"), HasSubstr("at most 100M parameters"),
                    HasSubstr("models/m/experts/e1 (exists)"),
                    HasSubstr("5 neurons in 2 layers, which write"),
                    HasSubstr("at width 992 32 documents agree to 0.70 with as many others (0.60 "
                              "half with half); add 20 more"),
                    HasSubstr("vllm will not load it: 1216 is no multiple of 128")));
  EXPECT_EQ(Run({"expert", "plan", "--task", "qa", "--remove", "20%", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::PlanExpertResponse>(), server_.secateur.plan);
}

TEST_F(ExpertCliTest, WaitsForTheExpertAndShowsIt) {
  EndWith(SucceededOperation(kOperation, TheExpert()));
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%"}), kOk) << err_;
  EXPECT_THAT(out_,
              AllOf(HasSubstr("language=ko,ja (weight 2) task=qa"), HasSubstr("width 992"),
                    HasSubstr("asked     remove 35.0%\n"), HasSubstr("35.4% of FFN neurons"),
                    HasSubstr("1.2e-06"),
                    HasSubstr("96 tokens: 12.5% repetition, base 10.0%; perplexity 1.250 times"),
                    HasSubstr("+10.0%"), HasSubstr("config.json"), HasSubstr("file:/store/e1")));
  EXPECT_EQ(err_, "");  // no bar: this is no terminal
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::Expert>(), TheExpert());
}

TEST_F(ExpertCliTest, EvaluatesAnExpertOnCorpora) {
  const auto response = FromText<v1::EvaluateExpertResponse>(R"(
      expert: "models/m/experts/e1"
      evaluations { corpus: "corpora/c1" labels { key: "language" value: "ko" } document_count: 8
                    base_bits_per_byte: 1.0 expert_bits_per_byte: 1.1 }
      evaluations { corpus: "corpora/c3" document_count: 1 overlap: 0.1 }
      evaluations { corpus: "corpora/c2" document_count: 40 overlap: 0.125 base_bits_per_byte: 1.0
                    expert_bits_per_byte: 0.9 choice_count: 39 base_accuracy: 0.5
                    expert_accuracy: 0.475 accuracy_difference_low: -0.1
                    accuracy_difference_high: 0.05 })");
  EndWith(SucceededOperation(kOperation, response));
  EXPECT_EQ(Run({"expert", "evaluate", "e1", "--corpus", "c1", "--corpus", "corpora/c2",
                 "--max-document-tokens", "129", "--request-id", "r"}),
            kOk)
      << err_;
  ExpectSame(server_.secateur.evaluate_request, FromText<v1::EvaluateExpertRequest>(R"(
      name: "models/m/experts/e1" corpora: "corpora/c1" corpora: "corpora/c2"
      max_document_tokens: 129 request_id: "r")"));
  EXPECT_THAT(out_, AllOf(HasSubstr("corpora/c1         language=ko  8"), HasSubstr("+10.0%"),
                          HasSubstr("-10.0%"), HasSubstr("39         50.0%          47.5%"),
                          HasSubstr("-2.5%"), HasSubstr("-10.0% to +5.0%"),
                          HasSubstr("warning: 12.5% of corpora/c2 stands in"),
                          HasSubstr("warning: how much of corpora/c1 stands in"),
                          Not(HasSubstr("of corpora/c3"))));
  EXPECT_EQ(Run({"expert", "evaluate", "e1", "--corpus", "c1", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::EvaluateExpertResponse>(), response);
  EXPECT_EQ(Run({"expert", "evaluate", "e1", "--corpus", "c1", "--no-wait"}), kOk);
  EXPECT_THAT(out_, HasSubstr("secateur operation watch operations/o1"));
}

TEST_F(ExpertCliTest, ListsGetsAndDeletesExperts) {
  server_.secateur.experts = {TheExpert()};
  EXPECT_EQ(Run({"expert", "list"}), kOk);
  EXPECT_EQ(server_.secateur.parent, "models/m");
  EXPECT_THAT(out_, AllOf(HasSubstr("models/m/experts/e1"), HasSubstr("992"), HasSubstr("35.4%"),
                          HasSubstr("relative-mean")));
  EXPECT_EQ(Run({"expert", "list", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::ListExpertsResponse>().experts(0), TheExpert());
  EXPECT_EQ(Run({"expert", "get", "e1", "--output", "json"}), kOk);
  ExpectSame(Parsed<v1::Expert>(), TheExpert());
  EXPECT_EQ(Run({"expert", "get", "models/m/experts/e2"}), kNotFound);
  EXPECT_EQ(Run({"expert", "delete", "e1"}), kOk);
  EXPECT_EQ(server_.secateur.deleted, "models/m/experts/e1");
}

TEST_F(ExpertCliTest, DownloadsAnExpert) {
  const std::string bytes = "{\"hidden_size\": 576}";
  v1::Expert expert = TheExpert();
  *expert.mutable_files(0) = FileOf("config.json", bytes);
  server_.secateur.experts = {expert};
  server_.secateur.download = Serve(expert.files(0), bytes, 4);
  const std::string folder = dir_.Join("expert");
  EXPECT_EQ(Run({"expert", "download", "models/m/experts/e1", folder}), kOk) << err_;
  std::ifstream in(folder + "/config.json");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
  EXPECT_EQ(out_, "1 file, sizes and SHA-256 checked, in " + folder + "\n");
  server_.secateur.download = Serve(expert.files(0), "{\"hidden_size\": 577}", 4);
  EXPECT_EQ(Run({"expert", "download", "e1", dir_.Join("other")}), kDataLoss);
  EXPECT_THAT(err_, HasSubstr("config.json"));
}

}  // namespace
}  // namespace secateur::cli
