// What the queue refuses because there is no room, and what it ends because it waits too long.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "server/base/errors.h"
#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using State = OperationState;

class QueueLimits : public testing::Test {
 protected:
  FakeClock clock_;
  MemoryStore blobs_{clock_};
};

TEST_F(QueueLimits, RefusesMoreThanMayWaitAndSaysWhenToComeBack) {
  Process process(blobs_, clock_, {.workers = 1, .max_queued = 2, .retry_after = absl::Seconds(7)});
  process.Submit(Request("Block", "running"));
  process.WaitUntilABlockRuns();
  process.Submit(Request("Echo", "1"));
  const std::string second = process.Submit(Request("Echo", "2"));
  const absl::Status full = process.queue().Submit(Request("Echo", "3")).status();
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted,
                             HasSubstr("3 operations wait or run, of 3")));
  EXPECT_EQ(NotesOf(full).reason, "QUEUE_FULL");
  EXPECT_EQ(NotesOf(full).retry_after, absl::Seconds(7));
  EXPECT_THAT(process.queue().List(), SizeIs(3));
  EXPECT_OK(process.queue().Cancel(second));  // makes room
  EXPECT_OK(process.queue().Submit(Request("Echo", "3")));
  process.ReleaseBlocks();
}

// A client that waits for the end finds the place free, whatever the worker is still about.
TEST_F(QueueLimits, FreesThePlaceBeforeTheEndIsSeen) {
  Process process(blobs_, clock_, {.workers = 4, .max_per_tenant = 1});
  for (int i = 0; i < 300; ++i) {
    const Operation operation =
        process.WaitFor(process.Submit(Request(i % 2 == 0 ? "Echo" : "Fail", "x")));
    EXPECT_TRUE(IsDone(operation.state));
  }
  const std::string running = process.Submit(Request("Block", "running"));
  EXPECT_EQ(NotesOf(process.queue().Submit(Request("Echo", "y")).status()).reason, "TENANT_QUOTA");
  ASSERT_OK(process.queue().Cancel(running));
  process.WaitFor(running);
  EXPECT_OK(process.queue().Submit(Request("Echo", "y")));
  EXPECT_THAT(process.metrics().Scrape(),
              HasSubstr("secateur_operations_refused_total{reason=\"TENANT_QUOTA\","
                        "type=\"Echo\"} 1"));
}

TEST_F(QueueLimits, CountsWhatOperationsNeedFromTheirAcceptanceToTheirEnd) {
  Process process(blobs_, clock_,
                  {.workers = 1, .max_memory_bytes = 10, .needs = [](const auto& request) {
                     return JobNeeds{.memory_bytes = std::ssize(request.request)};
                   }});
  const auto reason = [&process](const std::string& request) {
    return NotesOf(process.queue().Submit(Request("Echo", request)).status()).reason;
  };
  EXPECT_EQ(reason("eleven bytes"), "TOO_LARGE");
  const std::string waits = process.Submit(Request("Block", "9 letters"));
  process.WaitUntilABlockRuns();
  EXPECT_THAT(process.metrics().Scrape(), HasSubstr("\nsecateur_reserved_memory_bytes 9\n"));
  EXPECT_EQ(reason("ten letter"), "");  // one at a time
  EXPECT_THAT(process.metrics().Scrape(), HasSubstr("\nsecateur_reserved_memory_bytes 10\n"));
  process.ReleaseBlocks();
  process.WaitFor(waits);
}

// The only worker is busy for ever: no look at what comes out of the queue would help.
TEST_F(QueueLimits, EndsWhatWaitsTooLongByATimer) {
  Process process(blobs_, clock_,
                  {.workers = 1, .max_queue_time = absl::Hours(1), .lease = absl::Hours(24)});
  const std::string running = process.Submit(Request("Block", "running"));
  process.WaitUntilABlockRuns();
  const std::string waiting = process.Submit(Request("Echo", "waiting"));
  const auto ended = std::make_shared<std::promise<Operation>>();
  ASSERT_OK(process.queue().Observe(waiting, [ended](const Operation& now) {
    if (IsDone(now.state)) ended->set_value(now);
  }));
  clock_.Advance(absl::Hours(1));
  process.queue().EndOverdue();
  EXPECT_EQ(process.queue().Get(waiting)->state,
            State::kQueued);  // not before it has waited longer
  const std::string later = process.Submit(Request("Echo", "later"));

  clock_.Advance(absl::Seconds(90));
  auto end = ended->get_future();
  ASSERT_EQ(end.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  const Operation operation = end.get();
  EXPECT_EQ(operation.state, State::kFailed);
  EXPECT_THAT(operation.error,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("3690 s"), HasSubstr("--max-queue-seconds"))));
  EXPECT_EQ(NotesOf(operation.error).reason, "QUEUE_DEADLINE");
  EXPECT_TRUE(NotesOf(operation.error).retry_after.has_value());
  EXPECT_EQ(operation.start_time, absl::InfinitePast());
  Process another(blobs_, clock_);
  EXPECT_EQ(another.Get(waiting).state, State::kFailed);
  EXPECT_EQ(another.Get(waiting).error, operation.error);

  EXPECT_EQ(process.queue().Get(running)->state, State::kRunning);  // which waits for nobody
  process.ReleaseBlocks();
  EXPECT_EQ(process.WaitFor(later).state, State::kSucceeded);
  EXPECT_THAT(process.ran(), ElementsAre("running", "later"));
  process.queue().Drain(absl::InfiniteDuration());
  const std::string scraped = process.metrics().Scrape();
  EXPECT_THAT(scraped, HasSubstr("secateur_operations_refused_total{reason=\"QUEUE_DEADLINE\","
                                 "type=\"Echo\"} 1"));
  EXPECT_THAT(scraped, HasSubstr("secateur_operations_total{state=\"failed\",type=\"Echo\"} 1"));
}

// Whatever they race for it: it ends once, and what ran did not end as overdue.
TEST_F(QueueLimits, EndsWhatIsOverdueOnceWhoeverTakesIt) {
  Process process(blobs_, clock_,
                  {.workers = 2,
                   .max_queued = 200,
                   .max_queue_time = absl::Minutes(1),
                   .lease = absl::Hours(24)});
  std::vector<std::string> ids;
  for (int i = 0; i < 200; ++i) {
    ids.push_back(process.Submit(Request("Echo", std::to_string(i))));
    clock_.Advance(absl::Seconds(7));
    if (i % 10 == 0) process.queue().EndOverdue();
  }
  for (const std::string& id : ids) process.WaitFor(id);
  Process another(blobs_, clock_);
  size_t ran = 0;
  for (const std::string& id : ids) {
    const Operation operation = process.Get(id);
    if (operation.state == State::kSucceeded) {
      ++ran;
    } else {
      EXPECT_EQ(NotesOf(operation.error).reason, "QUEUE_DEADLINE");
      EXPECT_EQ(operation.starts, 0);
    }
    EXPECT_EQ(another.Get(id).state, operation.state);
  }
  EXPECT_EQ(process.ran().size(), ran);
}

}  // namespace
}  // namespace secateur
