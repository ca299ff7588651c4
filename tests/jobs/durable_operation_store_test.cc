#include "server/jobs/durable_operation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/base/errors.h"
#include "server/storage/memory_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using Kind = OperationEvent::Kind;

const absl::Time kNow = absl::FromUnixNanos(1'764'000'000'123'456'789);

std::vector<OperationEvent> Events() {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  return {{.kind = Kind::kCreated,
           .time = kNow,
           .request = {.method = "CreateExpert",
                       .target = "models/m",
                       .request_id = "\xc3\xa9 \xff",
                       .request = bytes}},
          {.kind = Kind::kStarted, .time = kNow + absl::Nanoseconds(1)},
          {.kind = Kind::kSuspended, .time = kNow},
          {.kind = Kind::kCancelRequested, .time = kNow},
          {.kind = Kind::kSucceeded, .time = kNow, .result = {"secateur.v1.Expert", bytes}},
          {.kind = Kind::kFailed,
           .time = kNow,
           .error = WithReason(WithRetryAfter(WithField(absl::DataLossError(bytes), "spec.select"),
                                              absl::Seconds(3)),
                               "DRAINING")},
          {.kind = Kind::kCancelled, .time = kNow, .error = absl::CancelledError("on request")}};
}

void ExpectSame(const OperationEvent& a, const OperationEvent& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.time, b.time);
  EXPECT_EQ(a.request.method, b.request.method);
  EXPECT_EQ(a.request.target, b.request.target);
  EXPECT_EQ(a.request.request_id, b.request.request_id);
  EXPECT_EQ(a.request.request, b.request.request);
  EXPECT_EQ(a.result.type, b.result.type);
  EXPECT_EQ(a.result.bytes, b.result.bytes);
  EXPECT_EQ(a.error, b.error);  // payloads, too
}

std::vector<std::string> Keys(BlobStore& blobs) {
  const auto listed = blobs.List("", "", 100);
  EXPECT_OK(listed);
  std::vector<std::string> keys;
  for (const BlobInfo& blob : *listed) keys.push_back(blob.key);
  return keys;
}

// The object of `key`, replaced by other bytes.
void Overwrite(BlobStore& blobs, const std::string& key, const std::string& bytes) {
  ASSERT_OK(blobs.Delete(key));
  ASSERT_OK(blobs.Put(key, bytes));
}

TEST(EventText, BringsBackWhatWasWritten) {
  for (const OperationEvent& event : Events()) {
    ASSERT_OK_AND_ASSIGN(const OperationEvent read, EventFromText(EventToText(event)));
    ExpectSame(read, event);
  }
}

TEST(EventText, IsRefusedWithAnyByteFlippedOrMissing) {
  const std::string text = EventToText(Events()[4]);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string flipped = text;
    flipped[at] ^= 1;
    EXPECT_THAT(EventFromText(flipped), StatusIs(absl::StatusCode::kDataLoss)) << at;
    EXPECT_THAT(EventFromText(text.substr(0, at)), StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
  EXPECT_THAT(EventFromText(text + " "), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(DurableOperationStore, GivesAnotherProcessTheEventsInTheirOrder) {
  MemoryStore blobs;
  {
    DurableOperationStore first(blobs);
    ASSERT_OK(first.Append("oa", Events()[0]));
    ASSERT_OK(first.Append("ob", Events()[0]));
    ASSERT_OK(first.Append("oa", Events()[1]));
  }
  DurableOperationStore second(blobs);
  ASSERT_OK(second.Load());
  ASSERT_OK(second.Append("oa", Events()[4]));
  DurableOperationStore third(blobs);
  ASSERT_OK_AND_ASSIGN(const auto operations, third.Load());
  ASSERT_THAT(operations, SizeIs(2));
  ASSERT_THAT(operations.at("oa"), SizeIs(3));
  ExpectSame(operations.at("oa")[0], Events()[0]);
  ExpectSame(operations.at("oa")[1], Events()[1]);
  ExpectSame(operations.at("oa")[2], Events()[4]);
}

TEST(DurableOperationStore, LeavesNothingOfWhatIsDeleted) {
  MemoryStore blobs;
  DurableOperationStore store(blobs);
  for (const OperationEvent& event : Events()) ASSERT_OK(store.Append("oa", event));
  ASSERT_OK(store.Append("oab", Events()[0]));
  ASSERT_OK(store.Delete("oa"));
  EXPECT_THAT(Keys(blobs), SizeIs(1));
  EXPECT_THAT(store.Load()->at("oab"), SizeIs(1));
}

// The beginning goes first, so a half-deleted operation that was done cannot come back to life.
TEST(DurableOperationStore, RemovesWhatADeleteLeftThatWasCutShort) {
  MemoryStore blobs;
  DurableOperationStore store(blobs);
  ASSERT_OK(store.Append("oa", Events()[0]));
  ASSERT_OK(store.Append("oa", Events()[1]));
  ASSERT_OK(store.Append("oa", Events()[4]));
  ASSERT_OK(blobs.Delete(Keys(blobs)[0]));
  EXPECT_THAT(DurableOperationStore(blobs).Load(), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(Keys(blobs), IsEmpty());
}

TEST(DurableOperationStore, DoesNotUseDamagedEventsAndKeepsThem) {
  MemoryStore blobs;
  DurableOperationStore store(blobs);
  for (const char* id : {"oa", "ob"}) {
    ASSERT_OK(store.Append(id, Events()[0]));
    ASSERT_OK(store.Append(id, Events()[4]));
  }
  const std::vector<std::string> keys = Keys(blobs);
  ASSERT_THAT(keys, SizeIs(4));
  Overwrite(blobs, keys[0], "damaged");                                       // the beginning of oa
  Overwrite(blobs, keys[3], blobs.ReadAll(keys[3], 1 << 20)->substr(0, 70));  // the end of ob
  DurableOperationStore other(blobs);
  ASSERT_OK_AND_ASSIGN(const auto operations, other.Load());
  ASSERT_THAT(operations, SizeIs(1));
  EXPECT_THAT(operations.at("ob"), SizeIs(1));
  EXPECT_EQ(Keys(blobs), keys);
  // What is appended comes behind the damaged one.
  ASSERT_OK(other.Append("ob", Events()[5]));
  EXPECT_EQ(DurableOperationStore(blobs).Load()->at("ob").back().kind, Kind::kFailed);
}

// The same request under its id, after the first acceptance could not be read.
TEST(DurableOperationStore, BeginsAgainWithTheLastAcceptance) {
  MemoryStore blobs;
  DurableOperationStore store(blobs);
  for (const size_t event : {0, 1, 5}) ASSERT_OK(store.Append("oa", Events()[event]));
  Overwrite(blobs, Keys(blobs)[0], "damaged");
  DurableOperationStore other(blobs);
  EXPECT_THAT(other.Load(), IsOkAndHolds(IsEmpty()));
  ASSERT_OK(other.Append("oa", Events()[0]));
  ASSERT_OK(other.Append("oa", Events()[1]));
  ASSERT_OK_AND_ASSIGN(const auto operations, DurableOperationStore(blobs).Load());
  ASSERT_THAT(operations.at("oa"), SizeIs(2));
  EXPECT_EQ(operations.at("oa")[0].kind, Kind::kCreated);
}

}  // namespace
}  // namespace secateur
