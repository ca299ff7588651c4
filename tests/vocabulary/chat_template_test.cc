#include "server/vocabulary/chat_template.h"

#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(TemplateTexts, AreWhatStandsOutsideOfTagsAndTheirLiterals) {
  EXPECT_THAT(TemplateTexts("{{ bos_token }}Hello {% if m['role'] == \"user\" %}you\n{% endif %}"),
              ElementsAre("Hello ", "role", "user", "you\n"));
}

TEST(TemplateTexts, AreUnescaped) {
  EXPECT_THAT(TemplateTexts(R"({{ '<|im_start|>\n\'x\'' + "a\\b\t" }})"),
              ElementsAre("<|im_start|>\n'x'", "a\\b\t"));
}

TEST(TemplateTexts, LeaveCommentsOut) {
  EXPECT_THAT(TemplateTexts("a{# 'never' written #}b"), ElementsAre("a", "b"));
}

TEST(TemplateTexts, TakeATagThatDoesNotEndAsText) {
  EXPECT_THAT(TemplateTexts("a {{ 'b'"), ElementsAre("a {{ 'b'"));
  EXPECT_THAT(TemplateTexts("{"), ElementsAre("{"));
  EXPECT_THAT(TemplateTexts(""), IsEmpty());
}

TEST(ChatTemplateTexts, ComeFromEveryPlaceATemplateMayBe) {
  const TempDir folder;
  EXPECT_THAT(ChatTemplateTexts(folder.path()), IsOkAndHolds(IsEmpty()));
  const nlohmann::json named = {{{"name", "default"}, {"template", "one"}},
                                {{"name", "tool_use"}, {"template", "two"}}};
  folder.Write("tokenizer_config.json", nlohmann::json({{"chat_template", named}}).dump());
  folder.Write("chat_template.jinja", "three");
  folder.Write("chat_template.json", R"({"chat_template": "four"})");
  ASSERT_OK_AND_ASSIGN(const auto texts, ChatTemplateTexts(folder.path()));
  for (const char* text : {"one", "two", "three", "four", "assistant"}) {
    EXPECT_THAT(texts, Contains(text));
  }
}

TEST(ChatTemplateTexts, OfAFileThatIsNoJsonAreAnError) {
  const TempDir folder;
  folder.Write("tokenizer_config.json", "{");
  EXPECT_THAT(
      ChatTemplateTexts(folder.path()),
      StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("tokenizer_config.json")));
}

}  // namespace
}  // namespace secateur
