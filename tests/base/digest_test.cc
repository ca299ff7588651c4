#include "server/base/digest.h"

#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using ::testing::HasSubstr;

// FIPS 180-4's own examples, and the empty string.
constexpr char kEmpty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kTwoBlocks[] = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
constexpr char kMillionA[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(Sha256Of("").Hex(), kEmpty);
  EXPECT_EQ(Sha256Of("abc").Hex(), kAbc);
  EXPECT_EQ(Sha256Of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").Hex(), kTwoBlocks);
  EXPECT_EQ(Sha256Of(std::string(1000000, 'a')).Hex(), kMillionA);
}

TEST(Sha256, IsTheSameHoweverTheBytesArrive) {
  const std::string data(1000000, 'a');
  for (const size_t step : {size_t{1000}, size_t{4096}, size_t{65537}}) {
    Sha256 hash;
    for (size_t i = 0; i < data.size(); i += step)
      hash.Update(std::string_view(data).substr(i, step));
    EXPECT_EQ(hash.Finish().Hex(), kMillionA) << step;
  }
}

TEST(Sha256, TellsFieldsApartByTheirLengths) {
  const auto digest_of = [](std::string_view first, std::string_view second) {
    Sha256 hash;
    hash.UpdateField(first);
    hash.UpdateField(second);
    return hash.Finish();
  };
  EXPECT_NE(digest_of("ab", "c"), digest_of("a", "bc"));
  EXPECT_NE(digest_of("", "abc"), digest_of("abc", ""));
}

TEST(Sha256, WritesNumbersAsEightLittleEndianBytes) {
  Sha256 number;
  number.UpdateField(uint64_t{0x0102030405060708});
  EXPECT_EQ(number.Finish(), Sha256Of("\x08\x07\x06\x05\x04\x03\x02\x01"));
}

TEST(Sha256, GoesOnAfterAMove) {
  Sha256 first;
  first.Update("a");
  Sha256 second = std::move(first);
  second.Update("bc");
  EXPECT_EQ(second.Finish().Hex(), kAbc);
}

TEST(Sha256OfFile, EqualsTheDigestOfTheBytes) {
  const TempDir dir;
  RunContext context;
  for (const size_t size :
       {size_t{0}, size_t{1}, (size_t{1} << 20) - 1, size_t{1} << 20, size_t{3000001}}) {
    const std::string bytes(size, 'x');
    EXPECT_THAT(Sha256OfFile(dir.Write("file", bytes), context), IsOkAndHolds(Sha256Of(bytes)));
  }
}

TEST(Sha256OfFile, NamesTheFileItCannotRead) {
  const TempDir dir;
  RunContext context;
  EXPECT_THAT(Sha256OfFile(dir.Join("absent"), context),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir.Join("absent"))));
  EXPECT_THAT(Sha256OfFile(dir.path(), context),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(dir.path())));
}

TEST(Sha256OfFile, StopsWhenCancelled) {
  const TempDir dir;
  RunContext context;
  context.Cancel();
  EXPECT_THAT(Sha256OfFile(dir.Write("file", "abc"), context),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST(Digest, ComesBackFromItsHexForm) {
  EXPECT_THAT(Digest::FromHex(kAbc), IsOkAndHolds(Sha256Of("abc")));
}

TEST(Digest, RefusesWhatIsNotSixtyFourHexDigits) {
  const std::string good = kAbc;
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "0", "g" + good.substr(1), " " + good.substr(1),
        good.substr(0, 63) + std::string(1, '\0'), std::string(64, '\xff')}) {
    EXPECT_THAT(Digest::FromHex(bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64 hex digits")));
  }
}

TEST(Digest, MakesIdsOfALetterAndFortyDigits) {
  EXPECT_EQ(Sha256Of("abc").Id('c'), "c" + std::string(kAbc).substr(0, 40));
}

}  // namespace
}  // namespace secateur
