#include "server/storage/metered_store.h"

#include <string>

#include "server/storage/memory_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MeteredStoreTest : public testing::Test {
 protected:
  Metrics metrics_{"test"};
  MeteredStore store_{std::make_unique<MemoryStore>(), metrics_};
};

TEST_F(MeteredStoreTest, CountsCallsByOperationAndCode) {
  ASSERT_OK(store_.Put("a", "12345"));
  EXPECT_FALSE(store_.Put("a", "12345").ok());
  EXPECT_OK(store_.Read("a", 1, 3));
  EXPECT_OK(store_.Read("a", 0, 3));
  EXPECT_FALSE(store_.Read("b", 0, 3).ok());
  EXPECT_OK(store_.Head("a"));
  EXPECT_OK(store_.List("", "", 10));
  EXPECT_OK(store_.Delete("a"));
  EXPECT_OK(store_.Check());
  const std::string scraped = metrics_.Scrape();
  for (const char* line :
       {"{code=\"OK\",operation=\"write\"} 1\n",
        "{code=\"ALREADY_EXISTS\",operation=\"write\"} 1\n", "{code=\"OK\",operation=\"read\"} 2\n",
        "{code=\"NOT_FOUND\",operation=\"read\"} 1\n", "{code=\"OK\",operation=\"head\"} 1\n",
        "{code=\"OK\",operation=\"list\"} 1\n", "{code=\"OK\",operation=\"delete\"} 1\n",
        "{code=\"OK\",operation=\"check\"} 1\n"}) {
    EXPECT_THAT(scraped, HasSubstr(std::string("secateur_store_requests_total") + line));
  }
  EXPECT_THAT(scraped, HasSubstr("secateur_store_duration_seconds_count{operation=\"read\"} 3\n"));
  EXPECT_THAT(scraped, HasSubstr("secateur_store_duration_seconds_count{operation=\"write\"} 2\n"));
}

TEST_F(MeteredStoreTest, CountsBytesThatWentThrough) {
  ASSERT_OK(store_.Put("a", std::string(1000, 'x')));
  EXPECT_OK(store_.Read("a", 900, 500));
  EXPECT_OK(store_.ReadAll("a", 1000));
  const std::string scraped = metrics_.Scrape();
  EXPECT_THAT(scraped, HasSubstr("secateur_store_bytes_total{direction=\"write\"} 1000\n"));
  EXPECT_THAT(scraped, HasSubstr("secateur_store_bytes_total{direction=\"read\"} 1100\n"));
}

TEST_F(MeteredStoreTest, CountsADiscardedWriterAsCancelled) {
  ASSERT_OK_AND_ASSIGN(auto writer, store_.Create("a"));
  ASSERT_OK(writer->Append("12345"));
  EXPECT_THAT(metrics_.Scrape(), Not(HasSubstr("secateur_store_requests_total{")));
  writer.reset();
  EXPECT_THAT(
      metrics_.Scrape(),
      HasSubstr("secateur_store_requests_total{code=\"CANCELLED\",operation=\"write\"} 1\n"));
}

}  // namespace
}  // namespace secateur
