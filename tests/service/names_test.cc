#include "server/service/names.h"

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;

const std::string kDigits(40, '7');

TEST(Names, AreReadBackAsTheyWereMade) {
  EXPECT_THAT(ParseModelName(ModelName("smollm2-1.7b_x"), "f"), IsOkAndHolds("smollm2-1.7b_x"));
  EXPECT_THAT(ParseCorpusName(CorpusName("c" + kDigits), "f"), IsOkAndHolds("c" + kDigits));
  EXPECT_THAT(ParseOperationName(OperationName("o" + kDigits), "f"), IsOkAndHolds("o" + kDigits));
  ASSERT_OK_AND_ASSIGN(const ChildName profile,
                       ParseProfileName(ProfileName("m", "p" + kDigits), "f"));
  EXPECT_EQ(profile.model, "m");
  EXPECT_EQ(profile.id, "p" + kDigits);
  ASSERT_OK_AND_ASSIGN(const ChildName expert,
                       ParseExpertName(ExpertName("m", "e" + kDigits), "f"));
  EXPECT_EQ(expert.id, "e" + kDigits);
}

TEST(Names, ThatAreMalformedAreRefusedWithTheFormTheyShouldHave) {
  const auto refused = [](const auto& parsed, const std::string& form) {
    EXPECT_THAT(parsed, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(form)));
    EXPECT_EQ(NotesOf(parsed.status()).field, "parent");
  };
  for (const std::string& name :
       {std::string(), std::string("models/"), std::string("models/A"), std::string("models/a/b"),
        std::string("models/.."), std::string("model/a"), std::string("models/a\n"),
        std::string("models/a\0", 9), "models/" + std::string(64, 'a')}) {
    refused(ParseModelName(name, "parent"), "models/{model}");
  }
  for (const std::string& id :
       {std::string("c"), "c" + kDigits + "0", "p" + kDigits, "C" + kDigits,
        "c" + std::string(40, 'A'), "c" + std::string(40, 'g'), "c" + kDigits.substr(1) + "/"}) {
    refused(ParseCorpusName("corpora/" + id, "parent"), "corpora/{corpus}");
  }
  for (const std::string& name :
       {"models/m/experts/p" + kDigits, "models/m/profiles/e" + kDigits,
        "models//experts/e" + kDigits, "models/m/experts/e" + kDigits + "/",
        "/models/m/experts/e" + kDigits}) {
    refused(ParseExpertName(name, "parent"), "models/{model}/experts/{id}");
  }
}

TEST(Names, AreShownEscapedAndShort) {
  const std::string hostile = "models/\x01\xff" + std::string(10'000, 'A');
  const absl::Status status = ParseModelName(hostile, "name").status();
  EXPECT_LT(status.message().size(), 1000U);
  EXPECT_EQ(status.message().find('\x01'), std::string::npos);
}

TEST(Slugs, AreLowerCaseWordsOfAtMost63Characters) {
  for (const char* slug : {"a", "0", "en", "zh-hant", "a.b_c-d", "9lives"}) {
    EXPECT_TRUE(IsSlug(slug)) << slug;
  }
  EXPECT_TRUE(IsSlug(std::string(63, 'a')));
  for (const char* slug : {"", "-a", ".a", "_a", "A", "a b", "a/b", "\xc3\xa9", "a=b", "a\""}) {
    EXPECT_FALSE(IsSlug(slug)) << slug;
  }
  EXPECT_FALSE(IsSlug(std::string(64, 'a')));
}

}  // namespace
}  // namespace secateur
