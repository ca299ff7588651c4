#include "server/jobs/operation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/base/errors.h"
#include "server/jobs/event_text.h"
#include "server/storage/memory_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
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
          {.kind = Kind::kAdopted, .time = kNow},
          {.kind = Kind::kSuspended, .time = kNow},
          {.kind = Kind::kCancelRequested, .time = kNow},
          {.kind = Kind::kSucceeded,
           .time = kNow,
           .result = {"secateur.v1.Expert", bytes},
           .cancel_requested = true},
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
  EXPECT_EQ(a.cancel_requested, b.cancel_requested);
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
  const std::string text = EventToText(Events()[5]);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string flipped = text;
    flipped[at] ^= 1;
    EXPECT_THAT(EventFromText(flipped), StatusIs(absl::StatusCode::kDataLoss)) << at;
    EXPECT_THAT(EventFromText(text.substr(0, at)), StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
  EXPECT_THAT(EventFromText(text + " "), StatusIs(absl::StatusCode::kDataLoss));
}

constexpr char kOwner[] = "0123456789abcdef";
const EventKey kFirst{1, kOwner, 1};
const EventKey kSecond{1, kOwner, 2};

TEST(OperationStore, GivesAnotherProcessTheEventsUnderTheirKeys) {
  MemoryStore blobs;
  OperationStore first(blobs);
  const EventKey adopted{2, "00000000000000aa", 1};
  ASSERT_OK(first.Put("oa", {kFirst, Events()[0]}));
  ASSERT_OK(first.Put("ob", {kFirst, Events()[0]}));
  ASSERT_OK(first.Put("oa", {kSecond, Events()[1]}));
  ASSERT_OK(first.Put("oa", {adopted, Events()[2]}));
  EXPECT_EQ(Keys(blobs)[2], "operations/oa/000002.00000000000000aa.000001");
  OperationStore second(blobs);
  EXPECT_THAT(second.KeysOf("oa"), IsOkAndHolds(ElementsAre(kFirst, kSecond, adopted)));
  EXPECT_THAT(second.KeysOf("o"), IsOkAndHolds(IsEmpty()));
  ASSERT_OK_AND_ASSIGN(const auto all, second.ListAll());
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_THAT(all.at("ob").keys, ElementsAre(kFirst));
  ASSERT_OK_AND_ASSIGN(const auto events, second.Read("oa", all.at("oa").keys));
  ASSERT_THAT(events, SizeIs(3));
  for (size_t i = 0; i < events.size(); ++i) ExpectSame(events[i].event, Events()[i]);
  EXPECT_EQ(events[2].key, adopted);
}

TEST(OperationStore, WritesAnEventOnceHoweverOftenItIsTried) {
  MemoryStore blobs;
  OperationStore store(blobs);
  ASSERT_OK(store.Put("oa", {kFirst, Events()[0]}));
  ASSERT_OK(store.Put("oa", {kFirst, Events()[0]}));
  EXPECT_THAT(Keys(blobs), SizeIs(1));
}

TEST(OperationStore, LeavesNothingOfWhatIsDeletedAndNothingElseAlone) {
  MemoryStore blobs;
  OperationStore store(blobs);
  for (int64_t number = 1; number <= 3; ++number) {
    ASSERT_OK(store.Put("oa", {{1, kOwner, number}, Events()[0]}));
  }
  ASSERT_OK(store.Put("oab", {kFirst, Events()[0]}));
  ASSERT_OK(store.Remove("oa", kSecond));
  EXPECT_THAT(store.KeysOf("oa"), IsOkAndHolds(SizeIs(2)));
  ASSERT_OK(store.Delete("oa"));
  EXPECT_THAT(Keys(blobs), SizeIs(1));
  EXPECT_THAT(store.KeysOf("oab"), IsOkAndHolds(SizeIs(1)));
}

TEST(OperationStore, DoesNotUseWhatIsDamagedOrOfAnotherFormatAndKeepsIt) {
  MemoryStore blobs;
  OperationStore store(blobs);
  ASSERT_OK(store.Put("oa", {kFirst, Events()[0]}));
  ASSERT_OK(store.Put("oa", {kSecond, Events()[5]}));
  const std::vector<std::string> keys = Keys(blobs);
  Overwrite(blobs, keys[1], blobs.ReadAll(keys[1], 1 << 20)->substr(0, 70));
  ASSERT_OK(blobs.Put("operations/oa/000001.0123abcd", "of an earlier format"));
  ASSERT_OK(blobs.Put("operations/oa/0001.x.y", "of no format"));
  ASSERT_OK_AND_ASSIGN(const auto found, store.KeysOf("oa"));
  EXPECT_THAT(found, ElementsAre(kFirst, kSecond));
  ASSERT_OK_AND_ASSIGN(const auto events, store.Read("oa", found));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].key, kFirst);
  EXPECT_THAT(Keys(blobs), SizeIs(4));
}

}  // namespace
}  // namespace secateur
