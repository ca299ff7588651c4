// What is deleted while an operation works with it: the operation ends well or says why not, and
// nothing else is harmed.
#include <string>

#include "server/admin/verify_store.h"
#include "server/storage/local_store.h"
#include "tests/integration/live_server.h"
#include "tests/integration/server_process.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AnyOf;
using testing::IsEmpty;
using Stub = v1::Secateur::Stub;
using Metadata = v1::OperationMetadata;

class DeleteInUse : public testing::Test {
 protected:
  bool Reaches(const lro::Operation& operation, const std::string& phase) {
    return Eventually([&] {
      const auto progress = MetadataOf(live_.GetOperation(operation.name())).progress();
      return progress.phase() == phase && progress.done() > 0;
    });
  }
  grpc::Status DeleteCorpus(const v1::Corpus& corpus) {
    v1::DeleteCorpusRequest request;
    request.set_name(corpus.name());
    request.set_force(true);
    google::protobuf::Empty empty;
    return live_.Call(&Stub::DeleteCorpus, request, &empty);
  }
  lro::Operation StartProfile() {
    lro::Operation operation;
    EXPECT_RPC_OK(live_.Call(&Stub::CreateProfile, ProfileAll(), &operation));
    return operation;
  }
  // The result, or an error that says that something is gone.
  void ExpectAnEnd(const lro::Operation& operation) {
    const lro::Operation done = live_.Wait(operation);
    if (done.has_response()) return;
    EXPECT_THAT(ErrorOf(done.error()).reason, AnyOf("NOT_FOUND", "NO_CORPUS_FOR_LABEL", "ABORTED"))
        << done.error().message();
  }
  void ExpectNothingDamaged() {
    ASSERT_OK_AND_ASSIGN(const auto root, LocalStore::Open(live_.dir().Join("store")));
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyStore(*root));
    for (const auto& finding : report.damaged) ADD_FAILURE() << finding.key << ": " << finding.what;
    EXPECT_THAT(report.orphans, IsEmpty());
    EXPECT_TRUE(live_.HasNoTemporaryFiles());
  }

  LiveServer live_;
};

TEST_F(DeleteInUse, OfACorpusThatIsProfiled) {
  const std::string text = JsonLines(3000, "long");
  const v1::Corpus corpus = live_.Upload({{"language", "en"}}, text);
  const lro::Operation operation = StartProfile();
  ASSERT_TRUE(Reaches(operation, "profile"));
  live_.Upload({{"language", "de"}}, JsonLines(5, "short"));
  EXPECT_RPC_OK(DeleteCorpus(corpus));
  ExpectAnEnd(operation);
  ExpectNothingDamaged();
  EXPECT_TRUE(live_.Wait(StartProfile()).has_response());  // of the other
  live_.Upload({{"language", "en"}}, JsonLines(5, "law"));
  EXPECT_TRUE(live_.Wait(StartProfile()).has_response());
}

TEST_F(DeleteInUse, OfACorpusThatIsUploadedAgainAtOnce) {
  const std::string text = JsonLines(3000, "long");
  const v1::Corpus corpus = live_.Upload({{"language", "en"}}, text);
  const lro::Operation operation = StartProfile();
  ASSERT_TRUE(Reaches(operation, "profile"));
  EXPECT_RPC_OK(DeleteCorpus(corpus));
  EXPECT_EQ(live_.Upload({{"language", "en"}}, text).name(), corpus.name());
  ExpectAnEnd(operation);
  ExpectNothingDamaged();
}

TEST_F(DeleteInUse, OfTheTextThatAnExpertIsMadeFromOrMeasuredOn) {
  const v1::Corpus made_from = live_.Upload({{"language", "en"}}, JsonLines(5, "laws"));
  const v1::Corpus measured_on =
      live_.Upload({{"language", "en"}}, JsonLines(3000, "held out"), v1::EVALUATION);
  v1::CreateExpertRequest request = EnglishRequest();
  request.mutable_spec()->add_evaluation_corpora(measured_on.name());
  lro::Operation operation;
  ASSERT_RPC_OK(live_.Create(request, &operation));
  ASSERT_TRUE(Reaches(operation, "evaluate"));
  EXPECT_RPC_OK(DeleteCorpus(made_from));
  EXPECT_RPC_OK(DeleteCorpus(measured_on));
  ExpectAnEnd(operation);
  ExpectNothingDamaged();
}

}  // namespace
}  // namespace secateur
