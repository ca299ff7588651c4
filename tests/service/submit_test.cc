#include "server/service/submit.h"

#include <gtest/gtest.h>

#include <string>

#include "secateur/v1/secateur.pb.h"

namespace secateur {
namespace {

// Maps have no order, and every map has another: a request that is sent again is told by its bytes.
TEST(OperationRequest, HasTheSameBytesEachTimeThatItIsRead) {
  v1::CreateCorpusRequest request;
  request.add_uris("file:/corpora/law.jsonl");
  for (const char* key : {"language", "domain", "task", "source"}) {
    (*request.mutable_corpus()->mutable_labels())[key] = key;
  }
  const std::string sent = request.SerializeAsString();
  const OperationRequest first = MakeOperationRequest("CreateCorpus", "", "id", request);
  for (int i = 0; i < 100; ++i) {
    v1::CreateCorpusRequest again;
    ASSERT_TRUE(again.ParseFromString(sent));
    EXPECT_EQ(MakeOperationRequest("CreateCorpus", "", "id", again).request, first.request);
  }
}

}  // namespace
}  // namespace secateur
