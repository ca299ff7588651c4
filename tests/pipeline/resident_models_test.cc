// What models say while they are loaded, and while their digests are computed.
#include "server/pipeline/resident_models.h"

#include <filesystem>
#include <future>
#include <memory>
#include <string>

#include "server/base/errors.h"
#include "server/model/compute_threads.h"
#include "server/storage/memory_store.h"
#include "tests/support/other_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

// Answers nothing until it is released.
class SlowStore final : public OtherStore {
 public:
  using OtherStore::OtherStore;
  absl::StatusOr<BlobInfo> Head(const std::string& key) override {
    released_.wait();
    return OtherStore::Head(key);
  }
  void Release() { release_.set_value(); }

 private:
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
};

class ResidentModelsTest : public testing::Test {
 protected:
  ResidentModelsTest() {
    SetComputeThreads(1);  // tests share the machine
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder_.path()));
  }
  // Its digest is asked of the slow store.
  std::shared_ptr<ResidentModel> Load() {
    const auto folder = ModelFolder::Open(folder_.path());
    EXPECT_OK(folder);
    RunContext context;
    auto model = ResidentModel::Load("tiny", *folder, Device{}, context, &digests_);
    EXPECT_OK(model);
    return *std::move(model);
  }

  const TempDir folder_;
  MemoryStore store_;
  SlowStore digests_{store_};
};

TEST_F(ResidentModelsTest, SayThatADigestIsNotKnownYetAndDoNotOutwaitACancel) {
  const auto model = Load();
  const absl::Status unknown = model->digest().status();
  EXPECT_THAT(unknown, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(NotesOf(unknown).reason, "STARTING");
  RunContext cancelled;
  cancelled.Cancel();
  EXPECT_THAT(model->WaitForDigest(cancelled), StatusIs(absl::StatusCode::kCancelled));
  digests_.Release();
  EXPECT_OK(model->WaitForDigest(RunContext()));
  RunContext context;
  EXPECT_EQ(*model->digest(), *DigestOfFolder(model->folder(), context));
}

TEST_F(ResidentModelsTest, SayWhyThereWillBeNoDigest) {
  const auto model = Load();
  std::filesystem::remove(folder_.Join("config.json"));
  digests_.Release();
  EXPECT_OK(model->WaitForDigest(RunContext()));
  EXPECT_THAT(model->digest(),
              StatusIs(absl::StatusCode::kNotFound, testing::HasSubstr("config.json")));
}

TEST_F(ResidentModelsTest, AreNotReadyAfterTheLoadingWasStopped) {
  Metrics metrics("test");
  ResidentModels models(metrics);
  models.StopLoading();
  EXPECT_OK(models.Start({{"tiny", folder_.path()}}, Device{}, store_));
  EXPECT_THAT(models.WaitUntilReady(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(models.ready());
  EXPECT_THAT(models.Get("tiny"), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace secateur
