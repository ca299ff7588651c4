// The job behind CreateCorpus.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/service/submit.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kPart = 1 << 20;

TEST(CorpusJob, ReadsNoFurtherPartAfterACancelAndLeavesNothing) {
  const TempDir dir;
  std::string lines;
  while (std::ssize(lines) < 5 * kPart)
    lines += R"({"text":"much text of one kind"})"
             "\n";
  dir.Write("text.jsonl", lines);
  TestStores stores;
  ResidentModels models(stores.metrics);
  ASSERT_OK_AND_ASSIGN(const UriAllowList readable, UriAllowList::Create({"file:" + dir.path()}));
  ASSERT_OK_AND_ASSIGN(const UriAllowList writable, UriAllowList::Create({}));
  v1::CreateCorpusRequest request;
  request.add_uris("file:" + dir.Join("text.jsonl"));
  ASSERT_OK_AND_ASSIGN(Job job,
                       MakeCorpusJob(JobParts{models, stores.all(), readable, writable},
                                     MakeOperationRequest("CreateCorpus", "corpora", "", request)));
  std::vector<int64_t> read;
  RunContext* running = nullptr;
  RunContext context([&](const Progress& progress) {
    read.push_back(progress.done);
    if (read.size() == 2) running->Cancel();
  });
  running = &context;
  EXPECT_THAT(job(context), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(read, ElementsAre(kPart, 2 * kPart));
  EXPECT_THAT(stores.Keys(""), IsEmpty());
}

}  // namespace
}  // namespace secateur
