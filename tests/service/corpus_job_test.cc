// The job behind CreateCorpus.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "server/service/submit.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kPart = 1 << 20;

// Of a file of five parts and a bit.
class CorpusJob : public testing::Test {
 protected:
  void SetUp() override {
    std::string lines;
    while (std::ssize(lines) < 5 * kPart)
      lines += R"({"text":"much text of one kind"})"
               "\n";
    path_ = dir_.Write("texts/text.jsonl", lines);
    folder_ = dir_.Join("texts");
    ASSERT_OK_AND_ASSIGN(readable_, UriAllowList::Create({"file:" + dir_.path()}));
    ASSERT_OK_AND_ASSIGN(writable_, UriAllowList::Create({}));
    v1::CreateCorpusRequest request;
    request.add_uris("file:" + path_);
    ASSERT_OK_AND_ASSIGN(
        job_, MakeCorpusJob(JobParts{models_, stores_.all(), readable_, writable_},
                            MakeOperationRequest("CreateCorpus", "corpora", "", request)));
  }

  // What stood at `path` is elsewhere, and a link leads there.
  void ExpectRefusedWithALinkInPlaceOf(const std::string& path) {
    const TempDir elsewhere;
    std::filesystem::rename(path, elsewhere.Join("secret"));
    std::filesystem::create_symlink(elsewhere.Join("secret"), path);
    RunContext context;
    EXPECT_THAT(job_(context),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cannot open " + path_)));
    EXPECT_THAT(stores_.Keys(""), IsEmpty());
  }

  const TempDir dir_;
  std::string folder_, path_;
  TestStores stores_;
  ResidentModels models_{stores_.metrics};
  UriAllowList readable_, writable_;
  Job job_;
};

TEST_F(CorpusJob, ReadsNoFurtherPartAfterACancelAndLeavesNothing) {
  std::vector<int64_t> read;
  RunContext* running = nullptr;
  RunContext context([&](const Progress& progress) {
    read.push_back(progress.done);
    if (read.size() == 2) running->Cancel();
  });
  running = &context;
  EXPECT_THAT(job_(context), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(read, ElementsAre(kPart, 2 * kPart));
  EXPECT_THAT(stores_.Keys(""), IsEmpty());
}

TEST_F(CorpusJob, IsNoCorpusOfAFileThatIsCutShortMeanwhile) {
  RunContext context([this](const Progress& progress) {
    if (progress.done == kPart) std::filesystem::resize_file(path_, kPart + 10);
  });
  EXPECT_THAT(job_(context), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path_)));
  EXPECT_THAT(stores_.Keys(""), IsEmpty());
}

TEST_F(CorpusJob, DoesNotFollowALinkThatTakesTheFilesPlace) {
  ExpectRefusedWithALinkInPlaceOf(path_);
}

TEST_F(CorpusJob, DoesNotFollowALinkThatTakesAFoldersPlace) {
  ExpectRefusedWithALinkInPlaceOf(folder_);
}

}  // namespace
}  // namespace secateur
