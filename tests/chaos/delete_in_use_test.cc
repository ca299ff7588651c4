// What is deleted while an operation works with it: the operation ends well or says why not, and
// nothing else is harmed.
#include <string>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::AnyOf;
using Stub = v1::Secateur::Stub;

class DeleteInUse : public testing::Test {
 protected:
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

  LiveServer live_;
};

TEST_F(DeleteInUse, OfACorpusThatIsProfiled) {
  const std::string text = JsonLines(3000, "long");
  const v1::Corpus corpus = live_.Upload({{"language", "en"}}, text);
  const lro::Operation operation = StartProfile();
  ASSERT_TRUE(live_.HasProgress(operation.name(), "profile"));
  live_.Upload({{"language", "de"}}, JsonLines(5, "short"));
  EXPECT_RPC_OK(live_.DeleteCorpus(corpus.name()));
  ExpectAnEnd(operation);
  live_.ExpectAWholeStore();
  EXPECT_TRUE(live_.Wait(StartProfile()).has_response());  // of the other
  live_.Upload({{"language", "en"}}, JsonLines(5, "law"));
  EXPECT_TRUE(live_.Wait(StartProfile()).has_response());
}

TEST_F(DeleteInUse, OfACorpusThatIsUploadedAgainAtOnce) {
  const std::string text = JsonLines(3000, "long");
  const v1::Corpus corpus = live_.Upload({{"language", "en"}}, text);
  const lro::Operation operation = StartProfile();
  ASSERT_TRUE(live_.HasProgress(operation.name(), "profile"));
  EXPECT_RPC_OK(live_.DeleteCorpus(corpus.name()));
  EXPECT_EQ(live_.Upload({{"language", "en"}}, text).name(), corpus.name());
  ExpectAnEnd(operation);
  live_.ExpectAWholeStore();
}

TEST_F(DeleteInUse, OfTheTextThatAnExpertIsMadeFromOrMeasuredOn) {
  const v1::Corpus made_from = live_.Upload({{"language", "en"}}, JsonLines(5, "laws"));
  const v1::Corpus measured_on =
      live_.Upload({{"language", "en"}}, JsonLines(3000, "held out"), v1::EVALUATION);
  v1::CreateExpertRequest request = EnglishRequest();
  request.mutable_spec()->add_evaluation_corpora(measured_on.name());
  lro::Operation operation;
  ASSERT_RPC_OK(live_.Create(request, &operation));
  ASSERT_TRUE(live_.HasProgress(operation.name(), "evaluate"));
  EXPECT_RPC_OK(live_.DeleteCorpus(made_from.name()));
  EXPECT_RPC_OK(live_.DeleteCorpus(measured_on.name()));
  ExpectAnEnd(operation);
  live_.ExpectAWholeStore();
}

}  // namespace
}  // namespace secateur
