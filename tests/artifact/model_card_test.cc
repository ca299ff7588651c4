#include "server/artifact/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

ModelCard SomeCard() {
  ModelCard card;
  card.title = "Korean legal summaries";
  card.base_model = "smollm2";
  card.base_digest = Sha256Of("base").Hex();
  card.license = {"apache-2.0", "", ""};
  card.selections = {{"language", {"ko", "ja"}}, {"domain", {"legal"}}};
  card.rule = "CUS_PRUN";
  card.layers = 30;
  card.base_width = 1536;
  card.expert_width = 992;
  card.base_parameters = 134'515'008;
  card.expert_parameters = 106'314'048;
  card.evaluations = {{"ko-legal", 24, 12'345, 1.23456, 1.34567},
                      {"ko-exam", 40, 9'876, 1.1, 1.2, 1'039, 0.505, 0.475, -0.0612, 0.0018}};
  card.perplexity_ratio = 1.2345;
  card.base_repetition = 0.125;
  card.expert_repetition = 0.25;
  return card;
}

TEST(ModelCard, SaysWhatWasMadeFromWhatAndHow) {
  const std::string text = ModelCardText(SomeCard());
  EXPECT_THAT(text, StartsWith("---\nbase_model: smollm2\n"));
  for (const char* part :
       {"\nlibrary_name: transformers\n", "\nlicense: apache-2.0\n", "\nlanguage:\n- ko\n- ja\n",
        "\ntags:\n- pruned\n", "# Korean legal summaries\n",
        "This model was modified: FFN neurons were removed from **smollm2**", "CUS\\_PRUN",
        "language=ko\\|ja, domain=legal", "| 1,536 | 992 | 35.4 % |",
        "| 46,080 | 29,760 | 35.4 % |", "| 134,515,008 | 106,314,048 | 21.0 % |",
        "| ko-legal | 24 | 12,345 | 1.2346 | 1.3457 |", "perplexity is 1.234 times",
        "25.0 % of all runs of four tokens are repetitions, 12.5 % in the base's",
        "| ko-exam | 1,039 | 50.5 % | 47.5 % | -6.1 % to +0.2 % |",
        "AutoModelForCausalLM.from_pretrained"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, HasSubstr(SomeCard().base_digest));
  EXPECT_THAT(text, Not(HasSubstr("| ko-legal | 0 |")));  // it has no questions
  EXPECT_EQ(text, ModelCardText(SomeCard()));
}

TEST(ModelCard, TellsOfZerosInAttention) {
  ModelCard card = SomeCard();
  card.attention_channels = card.masked = true;
  const std::string text = ModelCardText(card);
  EXPECT_THAT(text, HasSubstr("FFN neurons and channels of attention were removed from"));
  EXPECT_THAT(text, HasSubstr("What was removed is zeros: the tensors keep the base's shape."));
}

TEST(ModelCard, SaysWhenNothingWasRemoved) {
  ModelCard card = SomeCard();
  card.expert_width = card.base_width;
  EXPECT_THAT(ModelCardText(card), HasSubstr("modified: no parts were removed from **smollm2**"));
  card.base_kv_head_groups = 3;
  card.expert_kv_head_groups = 2;
  EXPECT_THAT(ModelCardText(card), HasSubstr("modified: KV head groups were removed from"));
}

TEST(ModelCard, TellsOfKvHeadGroups) {
  ModelCard card = SomeCard();
  card.base_kv_head_groups = card.expert_kv_head_groups = 3;
  EXPECT_THAT(ModelCardText(card), Not(HasSubstr("KV head")));
  card.expert_kv_head_groups = 2;
  card.compensated = true;
  const std::string text = ModelCardText(card);
  for (const char* part : {"FFN neurons and KV head groups were removed from",
                           "`o_proj` and `down_proj` were solved anew by least squares",
                           "| KV head groups of each layer | 3 | 2 | 33.3 % |"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(ModelCard, TellsOfATrimmedVocabularyAndWhatItCosts) {
  ModelCard card = SomeCard();
  card.base_vocabulary = 49'152;
  card.expert_vocabulary = 49'152;
  EXPECT_THAT(ModelCardText(card), Not(HasSubstr("vocabulary")));
  card.expert_vocabulary = 16'384;
  card.evaluations[0].base_tokens = 4000;
  card.evaluations[0].expert_tokens = 4010;
  std::string text = ModelCardText(card);
  for (const char* part :
       {"FFN neurons and tokens of the vocabulary were removed from **smollm2**",
        "Text of tokens that are gone is cut into smaller ones.",
        "| rows of the vocabulary | 49,152 | 16,384 | 66.7 % |", "| FFN neurons of each layer |",
        "| ko-legal | 4,000 | 4,010 | 0.25 % |"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  card.rule = "";
  card.expert_width = card.base_width;
  text = ModelCardText(card);
  EXPECT_THAT(text, HasSubstr("modified: tokens of the vocabulary were removed from **smollm2**"));
  EXPECT_THAT(text, Not(HasSubstr("FFN neurons")));
  EXPECT_THAT(text, Not(HasSubstr("Rule")));
}

TEST(ModelCard, TellsOfCompensationThatNothingWasHeldOutToJudge) {
  ModelCard card = SomeCard();
  card.compensated = true;
  EXPECT_THAT(ModelCardText(card), Not(HasSubstr("not checked")));
  card.unjudged = true;
  EXPECT_THAT(ModelCardText(card), HasSubstr("better than plain pruning was not checked"));
}

TEST(ModelCard, WarnsOfTextThatIsNotHeldOut) {
  ModelCard card = SomeCard();
  card.evaluations[0].overlap = card.evaluations[1].overlap = 0.1;
  EXPECT_THAT(ModelCardText(card), Not(HasSubstr("flatter")));
  card.evaluations[1].overlap.reset();
  EXPECT_THAT(ModelCardText(card), HasSubstr("- How much of ko-exam stands in the calibration"));
  card.evaluations[1].overlap = 0.25;
  const std::string text = ModelCardText(card);
  EXPECT_THAT(text,
              HasSubstr("flatter the expert:\n\n- 25 % of ko-exam stands in the calibration"));
  EXPECT_THAT(text, Not(HasSubstr("of ko-legal stands")));
}

TEST(ModelCard, SaysWhenNothingIsKnown) {
  ModelCard card = SomeCard();
  card.title = "";
  card.license = {};
  card.selections = {};
  card.evaluations = {};
  const std::string text = ModelCardText(card);
  EXPECT_THAT(text, HasSubstr("# Expert of smollm2\n"));
  EXPECT_THAT(text, HasSubstr("Made for: general text"));
  EXPECT_THAT(text, HasSubstr("Not measured"));
  EXPECT_THAT(text, Not(HasSubstr("license:")));
  EXPECT_THAT(text, Not(HasSubstr("language:")));
}

TEST(ModelCard, HostileValuesStayInTheirPlace) {
  ModelCard card = SomeCard();
  card.title = "x\n---\nlicense: mit\n# [a](b) <script>";
  card.base_model = "a: b\nc: \"d\"";
  card.license = {"other\n- x", "no", "1.0"};
  card.evaluations[0].corpus = "a | b\n| c |";
  const std::string text = ModelCardText(card);
  EXPECT_THAT(text, HasSubstr(R"(base_model: "a: b\nc: \"d\"")"));
  EXPECT_THAT(text, HasSubstr(R"(license: "other\n- x")"));
  EXPECT_THAT(text, HasSubstr("license_link: \"1.0\"\n"));  // else YAML reads a number
  EXPECT_THAT(text, HasSubstr(R"(# x --- license: mit \# \[a\](b) \<script\>)"));
  EXPECT_THAT(text, HasSubstr(R"(| a \| b \| c \| | 24 |)"));
}

TEST(BaseLicense, ComesFromTheFrontMatter) {
  const TempDir base;
  base.Write("README.md",
             "---\r\nlanguage: en\r\nlicense: other\r\nlicense_name: \"llama3.1\"\r\n"
             "license_link: 'https://example.org/l'\r\n---\r\nlicense: mit\r\n");
  base.Write("LICENSE", "MIT License\n");
  const BaseLicense license = ReadBaseLicense(base.path());
  EXPECT_EQ(license.license, "other");
  EXPECT_EQ(license.license_name, "llama3.1");
  EXPECT_EQ(license.license_link, "https://example.org/l");
}

TEST(BaseLicense, ComesFromTheLicenceFileWhenTheReadmeSaysNothing) {
  const TempDir base;
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "");
  base.Write("README.md", "# A model\nlicense: mit\n");
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "");
  base.Write("LICENSE", "\n    Apache License\n  Version 2.0, January 2004\n");
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "apache-2.0");
}

TEST(BaseLicense, FrontMatterThatDoesNotEndIsReadToTheEndOnly) {
  const TempDir base;
  base.Write("README.md", "---\nlicense:");
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "");
  base.Write("README.md", "");
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "");
  base.Write("README.md", "---\nlicense: \"\n");
  EXPECT_EQ(ReadBaseLicense(base.path()).license, "\"");
}

}  // namespace
}  // namespace secateur
