#include "server/artifact/expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/artifact/manifest_files.h"
#include "server/base/strings.h"
#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"
#include "tests/artifact/some_expert.h"
#include "tests/support/meanwhile_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(ExpertStore, ShowsNothingBeforePublish) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  ASSERT_OK(store.Load());
  const std::string prefix = PutAttempt(store, blobs, IdOf('1'), SomeFiles());
  EXPECT_FALSE(store.Find(IdOf('1')).has_value());
  ASSERT_OK(store.Load());
  EXPECT_THAT(store.List(), IsEmpty());

  ASSERT_OK(store.Publish(IdOf('1'), prefix, ManifestOf(SomeFiles())));
  EXPECT_TRUE(store.Find(IdOf('1')).has_value());
  EXPECT_THAT(store.List(), SizeIs(1));
}

TEST(ExpertStore, FindsAfterARestartWhatWasPublished) {
  MemoryStore blobs;
  ExpertStore before(blobs);
  const StoredExpert first = PublishSome(before, blobs, IdOf('a'));
  const StoredExpert second = PublishSome(before, blobs, IdOf('2'), {{"config.json", "{\"a\":1}"}});

  ExpertStore after(blobs);
  ASSERT_OK(after.Load());
  const std::vector<StoredExpert> found = after.List();
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0].id, second.id);  // sorted by id
  EXPECT_EQ(found[1].id, first.id);
  EXPECT_EQ(found[1].prefix, first.prefix);
  EXPECT_EQ(found[1].manifest_json, first.manifest_json);
  EXPECT_EQ(found[1].manifest.digest, Sha256Of(first.manifest_json));
  EXPECT_EQ(found[1].create_time, first.create_time);
  int64_t bytes = static_cast<int64_t>(first.manifest_json.size());
  ASSERT_THAT(found[1].files, SizeIs(SomeFiles().size()));
  size_t i = 0;
  for (const auto& [name, content] : SomeFiles()) {
    EXPECT_EQ(found[1].files[i].name, name);
    EXPECT_EQ(found[1].files[i].size, static_cast<int64_t>(content.size()));
    EXPECT_EQ(found[1].files[i].digest, Sha256Of(content));
    bytes += found[1].files[i++].size;
  }
  EXPECT_EQ(found[1].bytes(), bytes);
}

TEST(ExpertStore, DiscardLeavesNothingOfAnAttemptAndAllOfOthers) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  const StoredExpert kept = PublishSome(store, blobs, IdOf('1'), {{"a.txt", "a"}});
  const std::string failed = PutAttempt(store, blobs, IdOf('1'), SomeFiles());
  store.Discard(failed);
  EXPECT_THAT(Keys(blobs), ElementsAre(kept.prefix + "a.txt", kept.prefix + "secateur.json"));
}

TEST(ExpertStore, PublishOfAVisibleExpertKeepsTheOneThatReadersKnow) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  const StoredExpert first = PublishSome(store, blobs, IdOf('1'));
  const size_t keys = Keys(blobs).size();
  const StoredExpert again = PublishSome(store, blobs, IdOf('1'));
  EXPECT_EQ(again.prefix, first.prefix);
  EXPECT_EQ(store.Find(IdOf('1'))->prefix, first.prefix);
  EXPECT_THAT(Keys(blobs), SizeIs(keys));
}

TEST(ExpertStore, TheFirstAttemptInKeyOrderCountsWhenTwoHaveManifests) {
  MemoryStore blobs;
  const Files files = {{"a.txt", "a"}};
  for (const char* attempt : {"bb", "aa", "cc"}) {
    const std::string prefix = StrCat("experts/", IdOf('1'), "/", attempt, "/");
    ASSERT_OK(blobs.Put(prefix + "a.txt", "a"));
    ASSERT_OK(blobs.Put(prefix + "secateur.json", ManifestOf(files)));
  }
  ExpertStore store(blobs);
  ASSERT_OK(store.Load());
  EXPECT_EQ(store.Find(IdOf('1'))->prefix, StrCat("experts/", IdOf('1'), "/aa/"));
}

TEST(ExpertStore, PublishRefusesFilesThatAreMissingOrOfAnotherSize) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  std::string prefix = PutAttempt(store, blobs, IdOf('1'), {{"a.txt", "abc"}});
  EXPECT_THAT(store.Publish(IdOf('1'), prefix, ManifestOf({{"a.txt", "abc"}, {"b.txt", "b"}})),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("b.txt")));
  EXPECT_THAT(blobs.Head(prefix + "a.txt"), StatusIs(absl::StatusCode::kNotFound));
  prefix = PutAttempt(store, blobs, IdOf('1'), {{"a.txt", "abc"}});
  EXPECT_THAT(store.Publish(IdOf('1'), prefix, ManifestOf({{"a.txt", "abcd"}})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a.txt has 3 bytes")));
  EXPECT_THAT(store.Publish(IdOf('2'), prefix, ManifestOf({{"a.txt", "abc"}})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(prefix)));
  ASSERT_OK(store.Load());
  EXPECT_THAT(store.List(), IsEmpty());
}

TEST(ExpertStore, RefusesManifestsThatLie) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  const std::string hex(64, '0');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[]", "files"},
      {"{}", "files"},
      {R"([{"sizeBytes":"1","sha256":")" + hex + R"("}])", "name"},
      {"[7]", "files[0]"},
      {R"([{"name":"../x","sha256":")" + hex + R"("}])", "../x"},
      {R"([{"name":"a/b","sha256":")" + hex + R"("}])", "a/b"},
      {R"([{"name":"secateur.json","sha256":")" + hex + R"("}])", "secateur.json"},
      {R"([{"name":"a","sizeBytes":"-1","sha256":")" + hex + R"("}])", "sizeBytes"},
      {R"([{"name":"a","sizeBytes":"99999999999999999999","sha256":")" + hex + R"("}])",
       "sizeBytes"},
      {R"([{"name":"a","sizeBytes":1.5,"sha256":")" + hex + R"("}])", "sizeBytes"},
      {R"([{"name":"a","sha256":"xyz"}])", "files[0]"},
      {R"([{"name":"a"}])", "sha256"},
      {R"([{"name":"a","sha256":")" + hex + R"("},{"name":"a","sha256":")" + hex + R"("}])",
       "twice"}};
  for (const auto& [files, named] : cases) {
    EXPECT_THAT(store.Publish(IdOf('1'), store.NewPrefix(IdOf('1')), ManifestWith(files)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(named)))
        << files;
  }
}

TEST(ExpertStore, RefusesWhatIsNoManifestOrOfAnotherFormat) {
  using enum absl::StatusCode;
  const std::string good = ManifestOf({{"a.txt", "a"}});
  const auto with = [&](const std::string& version) {
    std::string text = good;
    text.replace(text.find("\": 2") + 3, 1, version);
    return text;
  };
  const std::tuple<std::string, absl::StatusCode, std::string> cases[] = {
      {"", kDataLoss, "JSON object"},
      {"[]", kDataLoss, "JSON object"},
      {"{}", kDataLoss, "formatVersion"},
      {"{\"formatVersion\": 2}", kDataLoss, "no sha256"},
      {with("\"2\""), kDataLoss, "formatVersion"},
      {with("1"), kUnimplemented, "formatVersion 1"},
      {with("3"), kUnimplemented, "formatVersion 3"},
      {with("2 "), kDataLoss, "its own sha256"}};
  for (const auto& [text, code, named] : cases) {
    EXPECT_THAT(CheckManifest(text), StatusIs(code, HasSubstr(named))) << text;
    EXPECT_THAT(ParseManifestFiles(text), StatusIs(code, HasSubstr(named))) << text;
  }
}

TEST(ExpertStore, NeverUsesAManifestWithAChangedByteOrACutOne) {
  const std::string text = ManifestOf({{"a.txt", "a"}, {"b.txt", ""}});
  const std::string key = StrCat("experts/", IdOf('1'), "/aa/secateur.json");
  const auto experts = [&](const std::string& manifest) {
    MemoryStore blobs;
    EXPECT_OK(blobs.Put(key, manifest));
    ExpertStore store(blobs);
    EXPECT_OK(store.Load());
    return store.List().size();
  };
  ASSERT_EQ(experts(text), 1u);
  for (size_t at = 0; at < text.size(); ++at) {
    for (const int mask : {0x01, 0x02, 0x10, 0x20, 0x80, 0xff}) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ mask);
      EXPECT_EQ(experts(flipped), 0u) << "byte " << at << " xor " << mask;
    }
    EXPECT_EQ(experts(text.substr(0, at)), 0u) << "cut at " << at;
  }
  EXPECT_EQ(experts(text + "\n"), 0u);
}

TEST(ExpertStore, LoadPassesOverWhatIsNoManifest) {
  MemoryStore blobs;
  ExpertStore writer(blobs);
  PublishSome(writer, blobs, IdOf('1'));
  ASSERT_OK(blobs.Put(StrCat("experts/", IdOf('2'), "/aa/secateur.json"), "not JSON"));
  ASSERT_OK(blobs.Put("experts/not-an-id/aa/secateur.json", ManifestOf(SomeFiles())));
  ASSERT_OK(blobs.Put(StrCat("experts/", IdOf('3'), "/secateur.json"), ManifestOf(SomeFiles())));
  ExpertStore store(blobs);
  ASSERT_OK(store.Load());
  ASSERT_THAT(store.List(), SizeIs(1));
  EXPECT_EQ(store.List()[0].id, IdOf('1'));
}

TEST(ExpertStore, AnUnreadableFirstAttemptDoesNotHideTheSecond) {
  MemoryStore blobs;
  const std::string root = StrCat("experts/", IdOf('1'), "/");
  ASSERT_OK(blobs.Put(root + "aa/secateur.json", "not JSON"));
  ASSERT_OK(blobs.Put(root + "bb/secateur.json", ManifestOf({{"a.txt", "a"}})));
  ExpertStore store(blobs);
  ASSERT_OK(store.Load());
  EXPECT_EQ(store.Find(IdOf('1'))->prefix, root + "bb/");
}

TEST(ExpertStore, LoadReadsMoreThanOnePageOfObjects) {
  MemoryStore blobs;
  ExpertStore writer(blobs);
  Files many;
  for (int i = 0; i < 1200; ++i) many[absl::StrFormat("f%04d.txt", i)] = "x";
  PublishSome(writer, blobs, IdOf('1'), many);
  PublishSome(writer, blobs, IdOf('2'));
  ExpertStore store(blobs);
  ASSERT_OK(store.Load());
  EXPECT_THAT(store.List(), SizeIs(2));
}

TEST(ExpertStore, DeleteRemovesEveryPublishedAttemptAndNothingElse) {
  MemoryStore blobs;
  ExpertStore store(blobs), another(blobs);
  PublishSome(store, blobs, IdOf('1'));
  PublishSome(another, blobs, IdOf('1'));  // on another server at the same time
  const StoredExpert other = PublishSome(store, blobs, IdOf('2'), {{"a.txt", "a"}});
  ASSERT_OK(store.Delete(IdOf('1')));
  EXPECT_FALSE(store.Find(IdOf('1')).has_value());
  EXPECT_THAT(Keys(blobs), ElementsAre(other.prefix + "a.txt", other.prefix + "secateur.json"));
  EXPECT_OK(store.Delete(IdOf('1')));  // again
  EXPECT_OK(store.Delete(""));         // no id: must not match everything
  EXPECT_OK(store.Delete("e"));
  EXPECT_TRUE(store.Find(IdOf('2')).has_value());
  EXPECT_THAT(Keys(blobs), SizeIs(2));
}

TEST(ExpertStore, DeleteLeavesAloneWhatIsBeingMade) {
  MemoryStore blobs;
  ExpertStore store(blobs);
  PublishSome(store, blobs, IdOf('1'));
  const std::string prefix = PutAttempt(store, blobs, IdOf('1'), SomeFiles());
  ASSERT_OK(store.Delete(IdOf('1')));
  EXPECT_FALSE(store.Find(IdOf('1')).has_value());
  EXPECT_OK(store.Publish(IdOf('1'), prefix, ManifestOf(SomeFiles())));
}

TEST(ExpertStore, LoadForgetsNothingThatIsPublishedMeanwhile) {
  MemoryStore memory;
  MeanwhileStore blobs(memory);
  ExpertStore store(blobs);
  blobs.Next([&] { PublishSome(store, memory, IdOf('1')); });
  EXPECT_OK(store.Load());
  blobs.Join();
  EXPECT_TRUE(store.Find(IdOf('1')).has_value());
}

TEST(ExpertStore, PrefixesOfAttemptsDiffer) {
  MemoryStore blobs;
  const ExpertStore store(blobs);
  const std::string a = store.NewPrefix(IdOf('1'));
  EXPECT_NE(a, store.NewPrefix(IdOf('1')));
  EXPECT_TRUE(a.starts_with(StrCat("experts/", IdOf('1'), "/")));
  EXPECT_TRUE(a.ends_with("/"));
  EXPECT_OK(CheckBlobKey(a + "model.safetensors"));
}

}  // namespace
}  // namespace secateur
