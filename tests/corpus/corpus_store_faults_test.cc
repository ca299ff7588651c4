// What a corpus store does when what lies below it fails, is damaged, or is shared with another
// server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "server/base/strings.h"
#include "tests/corpus/store_fixture.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kTwo = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n";

// Another store's objects, but what `before` returns, given the verb and the key, comes first.
class FaultyStore final : public BlobStore {
 public:
  explicit FaultyStore(BlobStore& store) : store_(store) {}
  std::function<absl::Status(std::string_view verb, const std::string& key)> before =
      [](std::string_view, const std::string&) { return absl::OkStatus(); };

  const std::string& uri() const override { return store_.uri(); }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    RETURN_IF_ERROR(before("create", key));
    return store_.Create(key);
  }
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    RETURN_IF_ERROR(before("read", key));
    return store_.Read(key, offset, length);
  }
  absl::StatusOr<BlobInfo> Head(const std::string& key) override { return store_.Head(key); }
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    RETURN_IF_ERROR(before("list", prefix));
    return store_.List(prefix, start_after, limit);
  }
  absl::Status Delete(const std::string& key) override {
    RETURN_IF_ERROR(before("delete", key));
    return store_.Delete(key);
  }
  std::optional<std::string> LocalPath(const std::string& key) override {
    return store_.LocalPath(key);
  }
  absl::Status Check() override { return store_.Check(); }

 private:
  BlobStore& store_;
};

class CorpusStoreFaultsTest : public CorpusStoreTest {
 protected:
  void Replace(const std::string& key, const std::string& bytes) {
    ASSERT_OK(blobs_.Delete(key));
    ASSERT_OK(blobs_.Put(key, bytes));
  }
  // Fails the `verb` on keys that start with `prefix`.
  void Fail(std::string_view verb, const std::string& prefix) {
    faulty_.before = [verb, prefix](std::string_view did, const std::string& key) {
      return did == verb && absl::StartsWith(key, prefix) ? absl::UnavailableError("store is down")
                                                          : absl::OkStatus();
    };
  }

  FaultyStore faulty_{blobs_};
  CorpusStore shaky_{faulty_, clock_};
};

TEST_F(CorpusStoreFaultsTest, EveryFlippedBitOfTheStoredDocumentsIsDataLoss) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string key = Keys(blobs_, "uploads/")[0];
  ASSERT_OK_AND_ASSIGN(const std::string bytes, blobs_.ReadAll(key, 1000));
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      Replace(key, damaged);
      ASSERT_THAT(Documents(store_, uploaded.corpus.id()),
                  StatusIs(StatusCode::kDataLoss, HasSubstr(uploaded.corpus.id())))
          << damaged;
    }
  }
}

TEST_F(CorpusStoreFaultsTest, StoredDocumentsThatAreCutLengthenedOrGoneAreDataLoss) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string key = Keys(blobs_, "uploads/")[0];
  ASSERT_OK_AND_ASSIGN(const std::string bytes, blobs_.ReadAll(key, 1000));
  const auto expect_loss = [&] {
    EXPECT_THAT(Documents(store_, uploaded.corpus.id()),
                StatusIs(StatusCode::kDataLoss,
                         AllOf(HasSubstr(uploaded.corpus.id()), HasSubstr("upload it again"))));
  };
  for (size_t size = 0; size < bytes.size(); ++size) {
    Replace(key, bytes.substr(0, size));
    expect_loss();
  }
  for (const std::string extra : {"\n", "{\"text\":\"three\"}\n", "x"}) {
    Replace(key, bytes + extra);
    expect_loss();
  }
  ASSERT_OK(blobs_.Delete(key));
  expect_loss();
}

TEST_F(CorpusStoreFaultsTest, NothingIsVisibleOfAnUploadCutOffBetweenDocumentsAndMeta) {
  Fail("create", "corpora/");
  EXPECT_THAT(Upload(shaky_, Labelled({}), kTwo),
              StatusIs(StatusCode::kUnavailable, HasSubstr("store is down")));
  EXPECT_THAT(shaky_.List({}), IsEmpty());
  EXPECT_THAT(Keys(blobs_, "uploads/"), SizeIs(1));  // as after a crash there
  const auto restarted = Restarted();
  EXPECT_THAT(restarted->List({}), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const auto again, Upload(*restarted, Labelled({}), kTwo));
  EXPECT_FALSE(again.existed);
  EXPECT_OK(Documents(*restarted, again.corpus.id()));
}

TEST_F(CorpusStoreFaultsTest, DocumentsThatNothingNamesAreDeletedAfterADay) {
  ASSERT_OK_AND_ASSIGN(const auto kept, Upload(store_, Labelled({}), "{\"text\":\"kept\"}"));
  Fail("create", "corpora/");
  EXPECT_FALSE(Upload(shaky_, Labelled({}), kTwo).ok());
  clock_.now += absl::Hours(23);
  Restarted();
  EXPECT_THAT(Keys(blobs_, "uploads/"), SizeIs(2));  // perhaps another server's, under way
  clock_.now += absl::Hours(2);
  const auto restarted = Restarted();
  EXPECT_THAT(Keys(blobs_, "uploads/"), SizeIs(1));
  EXPECT_OK(Documents(*restarted, kept.corpus.id()));
}

TEST_F(CorpusStoreFaultsTest, ADeletionCutOffAnywhereLeavesTheCorpusWholeOrGone) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string id = uploaded.corpus.id();
  // The first generation was left behind when the second was written.
  ASSERT_OK_AND_ASSIGN(const std::string first, blobs_.ReadAll(MetaKey(id, 1), 10'000));
  ASSERT_OK(store_.UpdateLabels(id, {{"task", "qa"}}, {}));
  ASSERT_OK(blobs_.Put(MetaKey(id, 1), first));
  for (int deletions = 0; deletions <= 3; ++deletions) {
    MemoryStore copy(clock_);
    for (const std::string& key : Keys(blobs_)) {
      ASSERT_OK(copy.Put(key, *blobs_.ReadAll(key, 10'000)));
    }
    FaultyStore faulty(copy);
    CorpusStore store(faulty, clock_);
    ASSERT_OK(store.Load());
    int left = deletions;
    faulty.before = [&left](std::string_view verb, const std::string&) {
      return verb == "delete" && left-- == 0 ? absl::UnavailableError("down") : absl::OkStatus();
    };
    EXPECT_EQ(store.Delete(id).ok(), deletions == 3);
    CorpusStore restarted(copy, clock_);
    ASSERT_OK(restarted.Load());
    EXPECT_EQ(restarted.Get(id).ok(), store.Get(id).ok());
    if (deletions < 2) {
      EXPECT_EQ(restarted.Get(id)->labels, (Labels{{"task", "qa"}}));
      EXPECT_THAT(Documents(restarted, id), IsOkAndHolds(SizeIs(2)));
    } else {
      EXPECT_THAT(restarted.List({}), IsEmpty());
    }
  }
}

TEST_F(CorpusStoreFaultsTest, ALabelChangeThatFailsChangesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(shaky_, Labelled({}), kTwo));
  Fail("create", "corpora/");
  EXPECT_THAT(shaky_.UpdateLabels(uploaded.corpus.id(), {{"task", "qa"}}, {}),
              StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(shaky_.Get(uploaded.corpus.id())->labels, IsEmpty());
  EXPECT_EQ(shaky_.Get(uploaded.corpus.id())->generation, 1);
}

TEST_F(CorpusStoreFaultsTest, TheNewestGenerationCountsWhenAnOlderOneIsLeft) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(shaky_, Labelled({}), kTwo));
  Fail("delete", "corpora/");
  ASSERT_OK(shaky_.UpdateLabels(uploaded.corpus.id(), {{"task", "qa"}}, {}));
  EXPECT_THAT(Keys(blobs_, "corpora/"), SizeIs(2));
  EXPECT_EQ(Restarted()->Get(uploaded.corpus.id())->labels, (Labels{{"task", "qa"}}));
}

TEST_F(CorpusStoreFaultsTest, ADamagedMetaObjectStopsLoadingAndIsNamed) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({{"language", "ko"}}), kTwo));
  const std::string key = MetaKey(uploaded.corpus.id(), 1);
  ASSERT_OK_AND_ASSIGN(const std::string bytes, blobs_.ReadAll(key, 10'000));
  const auto load = [&] { return CorpusStore(blobs_, clock_).Load(); };
  Replace(key, absl::StrReplaceAll(bytes, {{"\"ko\"", "\"kp\""}}));
  EXPECT_THAT(load(), StatusIs(StatusCode::kDataLoss, HasSubstr(key)));
  Replace(key, absl::StrReplaceAll(bytes, {{"\"format\":1", "\"format\":2"}}));
  EXPECT_THAT(load(), StatusIs(StatusCode::kFailedPrecondition, HasSubstr(key)));
  Replace(key, bytes);
  EXPECT_OK(load());
  ASSERT_OK(blobs_.Put(MetaKey(uploaded.corpus.id(), 2), bytes));
  EXPECT_THAT(load(), StatusIs(StatusCode::kDataLoss, HasSubstr("under another key")));
}

TEST_F(CorpusStoreFaultsTest, AStoreThatIsDownStopsLoading) {
  Fail("list", "corpora/");
  EXPECT_THAT(shaky_.Load(), StatusIs(StatusCode::kUnavailable));
  Fail("list", "uploads/");
  EXPECT_THAT(shaky_.Load(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(CorpusStoreFaultsTest, AnotherServersCorpusIsFoundWhenItIsUploadedAgain) {
  CorpusStore other(blobs_, clock_);
  ASSERT_OK(Upload(other, Labelled({{"task", "qa"}}), kTwo));
  ASSERT_OK_AND_ASSIGN(const auto result, Upload(store_, Labelled({{"task", "qa"}}), kTwo));
  EXPECT_TRUE(result.existed);
  EXPECT_OK(Documents(store_, result.corpus.id()));
  CorpusStore third(blobs_, clock_);
  EXPECT_THAT(Upload(third, Labelled({}), kTwo),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("task=qa")));
  EXPECT_THAT(Keys(blobs_, "uploads/"), SizeIs(1));
}

TEST_F(CorpusStoreFaultsTest, AnotherServersLabelChangeAbortsOursAndIsSeenThen) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string id = uploaded.corpus.id();
  const auto other = Restarted();
  ASSERT_OK(other->UpdateLabels(id, {{"task", "qa"}}, {}));
  EXPECT_THAT(store_.UpdateLabels(id, {{"task", "nli"}}, {}),
              StatusIs(StatusCode::kAborted, HasSubstr("another server")));
  EXPECT_EQ(store_.Get(id)->labels, (Labels{{"task", "qa"}}));
  ASSERT_OK_AND_ASSIGN(const CorpusInfo updated, store_.UpdateLabels(id, {{"task", "nli"}}, 2));
  EXPECT_EQ(updated.generation, 3);
}

}  // namespace
}  // namespace secateur
