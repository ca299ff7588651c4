#include "server/service/paging.h"

#include <algorithm>
#include <limits>
#include <random>
#include <set>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

const auto kSelf = [](const std::string& item) { return item; };

std::vector<std::string> RandomItems(std::mt19937& random, size_t count) {
  std::set<std::string> items;
  while (items.size() < count) {
    std::string item;
    for (size_t i = random() % 4 + 1; i > 0; --i) item += static_cast<char>('a' + random() % 26);
    items.insert(item);
  }
  return {items.begin(), items.end()};
}

TEST(Paginate, GivesEveryItemOnceInOrderWhateverTheSizeOfAPage) {
  std::mt19937 random(1);
  for (const size_t count : {0U, 1U, 2U, 7U, 50U, 51U, 300U}) {
    const std::vector<std::string> items = RandomItems(random, count);
    for (const int32_t size : {0, 1, 2, 3, 49, 50, 51, 300, 1000, 5000}) {
      std::vector<std::string> got;
      std::string token;
      do {
        ASSERT_OK_AND_ASSIGN(const auto page, Paginate(items, size, token, kSelf));
        const size_t most = size == 0 ? 50 : static_cast<size_t>(std::min(size, 1000));
        EXPECT_LE(page.items.size(), most);
        EXPECT_EQ(page.next_page_token.empty(), got.size() + page.items.size() == items.size());
        got.insert(got.end(), page.items.begin(), page.items.end());
        token = page.next_page_token;
      } while (!token.empty());
      EXPECT_EQ(got, items) << count << " by " << size;
    }
  }
}

TEST(Paginate, NeitherRepeatsNorHidesWhatStaysWhileOthersComeAndGo) {
  std::mt19937 random(2);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> items = RandomItems(random, 60);
    std::set<std::string> stable(items.begin(), items.end());
    std::vector<std::string> got;
    std::string token;
    do {
      ASSERT_OK_AND_ASSIGN(const auto page, Paginate(items, 7, token, kSelf));
      got.insert(got.end(), page.items.begin(), page.items.end());
      token = page.next_page_token;
      const size_t gone = random() % items.size();  // may be the last one of the page
      stable.erase(items[gone]);
      items.erase(items.begin() + static_cast<int64_t>(gone));
      items.push_back("zzzz" + std::to_string(random()));
      std::sort(items.begin(), items.end());
    } while (!token.empty() && got.size() < 1000);
    EXPECT_TRUE(std::is_sorted(got.begin(), got.end()));
    EXPECT_EQ(std::set<std::string>(got.begin(), got.end()).size(), got.size());
    for (const std::string& item : stable) EXPECT_THAT(got, testing::Contains(item));
  }
}

TEST(Paginate, RefusesSizesBelowZeroAndForeignTokens) {
  const std::vector<std::string> items = {"a", "b"};
  for (const int32_t size : {-1, std::numeric_limits<int32_t>::min()}) {
    const absl::Status status = Paginate(items, size, "", kSelf).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(NotesOf(status).field, "page_size");
  }
  for (const std::string& token : {std::string("x"), std::string("!!!"), std::string("MjphCg"),
                                   std::string("MQ"), std::string(10'000, 'A')}) {
    const absl::Status status = Paginate(items, 0, token, kSelf).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << token;
    EXPECT_EQ(NotesOf(status).field, "page_token");
  }
}

}  // namespace
}  // namespace secateur
