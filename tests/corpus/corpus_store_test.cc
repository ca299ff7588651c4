#include "server/corpus/corpus_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "tests/corpus/store_fixture.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kTwo =
    "{\"text\":\"하나\",\"id\":\"1\"}\n{\"text\":\"둘 two\",\"choices\":[\"a\"],\"label\":0}\n";

TEST_F(CorpusStoreTest, KeepsAnUploadAndFindsItAfterARestart) {
  CorpusInfo asked = Labelled({{"language", "ko"}}, CorpusPurpose::kEvaluation);
  asked.display_name = "두 문서";
  ASSERT_OK_AND_ASSIGN(const auto result, Upload(store_, asked, kTwo));
  EXPECT_FALSE(result.existed);
  const CorpusInfo& corpus = result.corpus;
  EXPECT_EQ(corpus.digest, Sha256Of(kTwo));  // the upload is in canonical form
  EXPECT_EQ(corpus.labels, asked.labels);
  EXPECT_EQ(corpus.purpose, CorpusPurpose::kEvaluation);
  EXPECT_EQ(corpus.display_name, "두 문서");
  EXPECT_EQ(corpus.documents, 2);
  EXPECT_EQ(corpus.bytes, 6 + 7);
  EXPECT_EQ(corpus.create_time, clock_.now);
  EXPECT_EQ(corpus.generation, 1);

  clock_.now += absl::Hours(100);
  const auto restarted = Restarted();
  for (const CorpusStore* store : {&store_, restarted.get()}) {
    ASSERT_OK_AND_ASSIGN(const CorpusInfo found, store->Get(corpus.id()));
    EXPECT_EQ(found.digest, corpus.digest);
    EXPECT_EQ(found.labels, corpus.labels);
    EXPECT_EQ(found.purpose, corpus.purpose);
    EXPECT_EQ(found.create_time, corpus.create_time);
    EXPECT_EQ(found.documents, 2);
    ASSERT_OK_AND_ASSIGN(const auto documents, Documents(*store, corpus.id()));
    ASSERT_THAT(documents, SizeIs(2));
    EXPECT_EQ(documents[0].text, "하나");
    EXPECT_EQ(documents[0].id, "1");
    EXPECT_EQ(documents[1].text, "둘 two");
    EXPECT_EQ(documents[1].label, 0);
  }
}

TEST_F(CorpusStoreTest, TheDigestIsThatOfTheDocumentsHoweverTheyAreWritten) {
  const std::string_view canonical = "{\"text\":\"é b\",\"id\":\"1\",\"answer_byte\":2}\n";
  const std::string_view variants[] = {
      "{\"id\":\"1\",\"answer_byte\":2,\"text\":\"é b\"}",
      "\xEF\xBB\xBF \t{ \"text\" : \"\\u00e9 b\" , \"id\":\"\\u0031\",\"answer_byte\": 2 } "
      "\r\n\r\n",
      "\n{\"language\":\"fr\",\"text\":\"é b\",\"choices\":[],\"answer_byte\":2,\"label\":null,"
      "\"answer\":\"\",\"x\":{\"y\":[]},\"id\":\"1\"}\n",
  };
  ASSERT_OK_AND_ASSIGN(const auto first, Upload(store_, Labelled({}), canonical));
  EXPECT_EQ(first.corpus.digest, Sha256Of(canonical));
  for (const std::string_view variant : variants) {
    ASSERT_OK_AND_ASSIGN(const auto again, Upload(store_, Labelled({}), variant));
    EXPECT_EQ(again.corpus.digest, first.corpus.digest) << variant;
    EXPECT_TRUE(again.existed);
  }
}

TEST_F(CorpusStoreTest, TheDigestDependsOnEveryKeptFieldAndTheOrder) {
  std::set<std::string> ids;
  const std::vector<std::string> uploads = {"{\"text\":\"ab\"}",
                                            "{\"text\":\"ac\"}",
                                            "{\"text\":\"ab\",\"id\":\"1\"}",
                                            "{\"text\":\"ab\",\"answer_byte\":0}",
                                            "{\"text\":\"ab\",\"answer_byte\":1}",
                                            "{\"text\":\"ab\",\"choices\":[\"x\"]}",
                                            "{\"text\":\"ab\",\"choices\":[\"x\"],\"label\":0}",
                                            "{\"text\":\"ab\",\"answer\":\"x\"}",
                                            "{\"text\":\"ab\"}\n{\"text\":\"ac\"}",
                                            "{\"text\":\"ac\"}\n{\"text\":\"ab\"}",
                                            "{\"text\":\"ab\"}\n{\"text\":\"ab\"}"};
  for (const std::string& upload : uploads) {
    ASSERT_OK_AND_ASSIGN(const auto result, Upload(store_, Labelled({}), upload));
    EXPECT_FALSE(result.existed);
    ids.insert(result.corpus.id());
  }
  EXPECT_THAT(ids, SizeIs(uploads.size()));
}

TEST_F(CorpusStoreTest, PlainTextAndJsonLinesOfTheSameTextsAreTheSameCorpus) {
  ASSERT_OK(Upload(store_, Labelled({}), "one\ntwo\n\nthree", CorpusFormat::kText));
  ASSERT_OK_AND_ASSIGN(const auto again, Upload(store_, Labelled({}),
                                                "{\"text\":\"one\\ntwo\"}\n{\"text\":\"three\"}"));
  EXPECT_TRUE(again.existed);
}

TEST_F(CorpusStoreTest, KnownDocumentsWithEqualLabelsAreTheExistingCorpus) {
  ASSERT_OK_AND_ASSIGN(const auto first, Upload(store_, Labelled({{"task", "qa"}}), kTwo));
  const std::vector<std::string> keys = Keys(blobs_);
  clock_.now += absl::Minutes(5);
  ASSERT_OK_AND_ASSIGN(const auto second, Upload(store_, Labelled({{"task", "qa"}}), kTwo));
  EXPECT_TRUE(second.existed);
  EXPECT_EQ(second.corpus.create_time, first.corpus.create_time);
  EXPECT_EQ(Keys(blobs_), keys);
  ASSERT_OK_AND_ASSIGN(const auto third, Upload(*Restarted(), Labelled({{"task", "qa"}}), kTwo));
  EXPECT_TRUE(third.existed);
}

TEST_F(CorpusStoreTest, KnownDocumentsWithOtherLabelsOrPurposeAreRefusedNamingBoth) {
  ASSERT_OK_AND_ASSIGN(const auto first,
                       Upload(store_, Labelled({{"domain", "legal"}, {"language", "ko"}}), kTwo));
  const std::vector<std::string> keys = Keys(blobs_);
  EXPECT_THAT(Upload(store_, Labelled({{"language", "ja"}}), kTwo),
              StatusIs(StatusCode::kAlreadyExists,
                       AllOf(HasSubstr(first.corpus.id()),
                             HasSubstr("{domain=legal, language=ko} and purpose CALIBRATION"),
                             HasSubstr("{language=ja} and purpose CALIBRATION"))));
  EXPECT_THAT(Upload(store_, Labelled(first.corpus.labels, CorpusPurpose::kEvaluation), kTwo),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("purpose EVALUATION")));
  EXPECT_THAT(Upload(store_, Labelled({}), kTwo),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("labels {}")));
  EXPECT_EQ(Keys(blobs_), keys);
}

TEST_F(CorpusStoreTest, AnUploadThatIsDroppedOrRefusedLeavesNothing) {
  {
    ASSERT_OK_AND_ASSIGN(const auto upload,
                         store_.StartUpload(Labelled({}), CorpusFormat::kJsonLines));
    ASSERT_OK(upload->Append(kTwo));
  }
  ASSERT_OK_AND_ASSIGN(const auto refused,
                       store_.StartUpload(Labelled({}), CorpusFormat::kJsonLines));
  ASSERT_OK(refused->Append(kTwo));
  const absl::Status error = refused->Append("nonsense\n");
  EXPECT_THAT(error, StatusIs(StatusCode::kInvalidArgument, HasSubstr("line 3")));
  EXPECT_EQ(refused->Finish().status(), error);
  EXPECT_THAT(refused->Finish(), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(refused->Append("x"), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(Upload(store_, Labelled({}), "\n\n"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no document")));
  EXPECT_THAT(Keys(blobs_), IsEmpty());
  EXPECT_THAT(store_.List({}), IsEmpty());
}

TEST_F(CorpusStoreTest, AnAnnouncedDigestIsThatOfTheDocumentsOrNothingIsStored) {
  CorpusInfo info;
  info.digest = Sha256Of(kTwo);
  EXPECT_THAT(Upload(store_, info, "{\"text\":\"other\"}"),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(info.digest.Hex()),
                             HasSubstr(Sha256Of("{\"text\":\"other\"}\n").Hex()))));
  EXPECT_THAT(Keys(blobs_), IsEmpty());
  EXPECT_OK(Upload(store_, info, kTwo));
}

TEST_F(CorpusStoreTest, BadLabelsAndNamesAreRefusedAtTheStart) {
  EXPECT_THAT(Upload(store_, Labelled({{"language", "KO"}}), kTwo),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("KO")));
  CorpusInfo info;
  info.display_name = std::string(256, 'n');
  EXPECT_OK(Upload(store_, info, kTwo));
  info.display_name += 'n';
  EXPECT_THAT(
      Upload(store_, info, kTwo),
      StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr("display_name"), HasSubstr("257"))));
  info.display_name = "\xC3";
  EXPECT_THAT(Upload(store_, info, kTwo),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("display_name is not UTF-8")));
}

TEST_F(CorpusStoreTest, ListsById) {
  std::vector<std::string> ids;
  const auto upload = [&](const Labels& labels, CorpusPurpose purpose) {
    const std::string text = absl::StrCat("{\"text\":\"", ids.size(), "\"}");
    ids.push_back(Upload(store_, Labelled(labels, purpose), text)->corpus.id());
  };
  upload({{"language", "ko"}, {"task", "qa"}}, CorpusPurpose::kCalibration);
  upload({{"language", "ko"}}, CorpusPurpose::kEvaluation);
  upload({{"language", "de"}, {"task", "qa"}}, CorpusPurpose::kCalibration);
  upload({}, CorpusPurpose::kCalibration);
  const auto list = [&](const CorpusStore& store, const CorpusFilter& filter) {
    std::vector<std::string> found;
    for (const CorpusInfo& info : store.List(filter)) found.push_back(info.id());
    EXPECT_TRUE(std::is_sorted(found.begin(), found.end()));
    return found;
  };
  using testing::UnorderedElementsAre;
  const auto restarted = Restarted();
  for (const CorpusStore* store : {&store_, restarted.get()}) {
    EXPECT_THAT(list(*store, {}), UnorderedElementsAre(ids[0], ids[1], ids[2], ids[3]));
    EXPECT_THAT(list(*store, {{{"language", "ko"}}, {}}), UnorderedElementsAre(ids[0], ids[1]));
    EXPECT_THAT(list(*store, {{{"language", "ko"}, {"task", "qa"}}, {}}), ElementsAre(ids[0]));
    EXPECT_THAT(list(*store, {{{"language", "ko"}}, CorpusPurpose::kEvaluation}),
                ElementsAre(ids[1]));
    EXPECT_THAT(list(*store, {{}, CorpusPurpose::kCalibration}),
                UnorderedElementsAre(ids[0], ids[2], ids[3]));
    EXPECT_THAT(list(*store, {{{"language", "fr"}}, {}}), IsEmpty());
    EXPECT_THAT(list(*store, {{{"qa", "task"}}, {}}), IsEmpty());
  }
}

TEST_F(CorpusStoreTest, UpdatesLabelsAtTheExpectedGeneration) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({{"language", "ko"}}), kTwo));
  const std::string id = uploaded.corpus.id();
  const Labels labels = {{"language", "ko"}, {"task", "qa"}};
  ASSERT_OK_AND_ASSIGN(const CorpusInfo updated, store_.UpdateLabels(id, labels, 1));
  EXPECT_EQ(updated.generation, 2);
  EXPECT_EQ(updated.labels, labels);
  EXPECT_EQ(updated.digest, uploaded.corpus.digest);
  EXPECT_EQ(updated.create_time, uploaded.corpus.create_time);

  EXPECT_THAT(
      store_.UpdateLabels(id, {}, 1),
      StatusIs(StatusCode::kAborted, AllOf(HasSubstr(id), HasSubstr("generation 2, not 1"))));
  EXPECT_THAT(store_.UpdateLabels(id, {{"Bad", "x"}}, 2), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(store_.UpdateLabels("c123", labels, {}),
              StatusIs(StatusCode::kNotFound, HasSubstr("c123")));
  ASSERT_OK_AND_ASSIGN(const CorpusInfo same, store_.UpdateLabels(id, labels, {}));
  EXPECT_EQ(same.generation, 2);  // nothing to change

  const auto restarted = Restarted();
  for (const CorpusStore* store : {&store_, restarted.get()}) {
    EXPECT_EQ(store->Get(id)->labels, labels);
    EXPECT_EQ(store->Get(id)->generation, 2);
    EXPECT_OK(Documents(*store, id));
  }
  ASSERT_OK_AND_ASSIGN(const auto again, Upload(store_, Labelled(labels), kTwo));
  EXPECT_TRUE(again.existed);
  ASSERT_OK_AND_ASSIGN(const CorpusInfo third, store_.UpdateLabels(id, {}, {}));
  EXPECT_EQ(third.generation, 3);
  EXPECT_THAT(Keys(blobs_, "corpora/"), ElementsAre(MetaKey(id, 3)));
}

TEST_F(CorpusStoreTest, RefusesAChangeOfAGenerationThatOthersAreTwoAheadOf) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string id = uploaded.corpus.id();
  const auto behind = Restarted();
  ASSERT_OK(store_.UpdateLabels(id, {{"language", "ko"}}, {}));
  ASSERT_OK(store_.UpdateLabels(id, {{"language", "en"}}, {}));
  EXPECT_THAT(behind->UpdateLabels(id, {{"language", "de"}}, 1), StatusIs(StatusCode::kAborted));
  EXPECT_EQ(behind->Get(id)->labels, (Labels{{"language", "en"}}));
  EXPECT_THAT(Keys(blobs_, "corpora/"), ElementsAre(MetaKey(id, 3)));
  EXPECT_OK(behind->UpdateLabels(id, {{"language", "de"}}, 3));
}

TEST_F(CorpusStoreTest, DeletesACorpusWithAllItsObjects) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  const std::string id = uploaded.corpus.id();
  ASSERT_OK(store_.UpdateLabels(id, {{"task", "qa"}}, {}));
  ASSERT_OK(store_.Delete(id));
  EXPECT_THAT(Keys(blobs_), IsEmpty());
  for (const absl::Status& status :
       {store_.Delete(id), store_.Get(id).status(), Documents(store_, id).status(),
        store_.UpdateLabels(id, {}, {}).status()}) {
    EXPECT_THAT(status, StatusIs(StatusCode::kNotFound, HasSubstr("corpora/" + id)));
  }
  ASSERT_OK_AND_ASSIGN(const auto again, Upload(store_, Labelled({}), kTwo));
  EXPECT_FALSE(again.existed);
  EXPECT_EQ(again.corpus.generation, 1);
  EXPECT_OK(Documents(store_, id));
}

TEST_F(CorpusStoreTest, AnErrorOfTheVisitorEndsTheReading) {
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), kTwo));
  int visits = 0;
  EXPECT_THAT(store_.ForEachDocument(uploaded.corpus.id(),
                                     [&](Document) {
                                       ++visits;
                                       return absl::CancelledError("enough");
                                     }),
              StatusIs(StatusCode::kCancelled, "enough"));
  EXPECT_EQ(visits, 1);
}

TEST_F(CorpusStoreTest, ReadsBackDocumentsLongerThanAReadAndManyOfThem) {
  std::string upload = "{\"text\":\"" + std::string(1 << 20, 'x') + "\"}\n";
  for (int i = 0; i < 20'000; ++i) upload += absl::StrCat("{\"text\":\"document ", i, "\"}\n");
  ASSERT_OK_AND_ASSIGN(const auto uploaded, Upload(store_, Labelled({}), upload));
  int64_t bytes = 0;
  int64_t documents = 0;
  EXPECT_OK(store_.ForEachDocument(uploaded.corpus.id(), [&](const Document& document) {
    bytes += static_cast<int64_t>(document.text.size());
    ++documents;
    return absl::OkStatus();
  }));
  EXPECT_EQ(documents, 20'001);
  EXPECT_EQ(bytes, uploaded.corpus.bytes);
}

}  // namespace
}  // namespace secateur
