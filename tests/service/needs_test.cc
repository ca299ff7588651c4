#include "server/service/needs.h"

#include "server/model/compute_threads.h"
#include "server/pipeline/build_expert.h"
#include "server/pipeline/build_profile.h"
#include "server/service/submit.h"
#include "server/storage/local_store.h"
#include "tests/pipeline/fixture.h"
#include "tests/service/plain_spec.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

class NeedsTest : public testing::Test {
 protected:
  NeedsTest() {
    SetComputeThreads(1);  // tests share the machine
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder_.path()));
    EXPECT_OK(models_.Start({{"tiny", folder_.path()}}, Device{}, stores_.blobs));
    EXPECT_OK(models_.WaitUntilReady());
    EXPECT_OK(Model().WaitForDigest(RunContext()));
    corpora_ = {stores_.Add({{"language", "en"}}, 3, "english"),
                stores_.Add({{"language", "de"}}, 3, "german")};
  }

  ResidentModel& Model() { return **models_.Get("tiny"); }

  JobNeeds Of(const std::string& method, const google::protobuf::Message& request,
              const Stores& stores) {
    return NeedsOf(JobParts{models_, stores, uris_, uris_},
                   MakeOperationRequest(method, "models/tiny", "", request));
  }
  JobNeeds Of(const std::string& method, const google::protobuf::Message& request) {
    return Of(method, request, stores_.all());
  }
  int64_t StoredByProfiles(bool attention, const std::string& filter = "*") {
    v1::CreateProfileRequest request;
    request.set_parent("models/tiny");
    request.set_filter(filter);
    request.set_attention(attention);
    return Of("CreateProfile", request).stored_bytes;
  }
  static v1::CreateExpertRequest EnglishExpert() {
    v1::CreateExpertRequest request;
    request.set_parent("models/tiny");
    *request.mutable_spec() = Plain();
    return request;
  }
  void Profile(const CorpusInfo& corpus, bool attention) {
    RunContext context;
    EXPECT_OK(BuildProfiles(Model(), {corpus}, {.attention = attention}, stores_.all(), context));
  }

  const TempDir folder_;
  TestStores stores_;
  ResidentModels models_{stores_.metrics};
  const UriAllowList uris_ = *UriAllowList::Create({});
  std::vector<CorpusInfo> corpora_;
};

TEST_F(NeedsTest, ProfilesThatAreThereStoreNothing) {
  const int64_t two = StoredByProfiles(false), two_with_attention = StoredByProfiles(true);
  EXPECT_GT(two, 0);
  EXPECT_GT(two_with_attention, two);
  EXPECT_EQ(StoredByProfiles(false, "labels.language = \"en\""), two / 2);
  Profile(corpora_[0], false);
  EXPECT_EQ(StoredByProfiles(false), two / 2);
  EXPECT_EQ(StoredByProfiles(true), two_with_attention);  // it is another profile
  Profile(corpora_[0], true);
  Profile(corpora_[1], true);
  EXPECT_EQ(StoredByProfiles(true), 0);
  EXPECT_EQ(StoredByProfiles(false), 0);  // those will do
}

TEST_F(NeedsTest, AnExpertStoresTheProfilesThatItLacks) {
  const int64_t profile = StoredByProfiles(false, "labels.language = \"en\"");
  const int64_t lacking = Of("CreateExpert", EnglishExpert()).stored_bytes;
  Profile(corpora_[0], false);
  const int64_t base = Of("CreateExpert", EnglishExpert()).stored_bytes;
  EXPECT_EQ(base, BaseSize(Model()).bytes);
  EXPECT_EQ(lacking, base + profile);
}

TEST_F(NeedsTest, AnExpertInABucketIsReadFromACopy) {
  RunContext context;
  ASSERT_OK_AND_ASSIGN(
      const StoredExpert expert,
      BuildExpert(Model(), RequestFor({{"language", {"en"}, 1}}), {}, stores_.all(), context));
  v1::EvaluateExpertRequest evaluate;
  evaluate.set_name("models/tiny/experts/" + expert.id);
  EXPECT_EQ(Of("EvaluateExpert", evaluate).temporary_bytes, expert.bytes());
  const int64_t create = Of("CreateExpert", EnglishExpert()).temporary_bytes;

  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto local, LocalStore::Open(dir.path()));
  const Stores in_a_folder{*local,        stores_.corpora,  stores_.profiles,      stores_.experts,
                           stores_.views, stores_.measured, stores_.single_flight, stores_.metrics};
  EXPECT_EQ(Of("EvaluateExpert", evaluate, in_a_folder).temporary_bytes, 0);
  EXPECT_EQ(create - Of("CreateExpert", EnglishExpert(), in_a_folder).temporary_bytes,
            BaseSize(Model()).bytes);
}

}  // namespace
}  // namespace secateur
