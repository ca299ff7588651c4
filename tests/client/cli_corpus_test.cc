// secateur corpus ...
#include "tests/client/cli_runner.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(CliTest, UploadsAFileWithItsLabels) {
  const std::string file = dir_.Write("legal.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  // The file after an option that may be repeated is not one of its values.
  EXPECT_EQ(Run({"corpus", "upload", "--label", "language=ko", "--label", "domain=legal", file,
                 "--purpose", "evaluation"}),
            kOk)
      << err_;
  const v1::UploadCorpusMetadata metadata = server_.secateur.uploads().metadata;
  EXPECT_EQ(metadata.corpus().labels().size(), 2u);
  EXPECT_EQ(metadata.corpus().labels().at("domain"), "legal");
  EXPECT_EQ(metadata.corpus().purpose(), v1::EVALUATION);
  EXPECT_EQ(metadata.corpus().display_name(), "legal.jsonl");
  EXPECT_EQ(metadata.format(), v1::CORPUS_FORMAT_UNSPECIFIED);
  EXPECT_THAT(server_.secateur.uploads().chunks,
              ElementsAre("{\"text\": \"a\"}\n{\"text\": \"b\"}\n"));
  EXPECT_THAT(out_, AllOf(HasSubstr("corpora/c1  new  2 documents  28 B"),
                          HasSubstr("domain=legal language=ko"), HasSubstr(file)));
}

TEST_F(CliTest, UploadsTheStandardInput) {
  EXPECT_EQ(Run({"corpus", "upload", "-", "--format", "text", "--display-name", "from a pipe"},
                "some text\n"),
            kOk);
  EXPECT_THAT(server_.secateur.uploads().chunks, ElementsAre("some text\n"));
  EXPECT_EQ(server_.secateur.uploads().metadata.format(), v1::TEXT);
  EXPECT_EQ(server_.secateur.uploads().metadata.corpus().display_name(), "from a pipe");
}

TEST_F(CliTest, UploadsSeveralFilesAsSeveralCorpora) {
  const std::string one = dir_.Write("one.txt", "1\n");
  const std::string two = dir_.Write("two.jsonl", "2\n");
  EXPECT_EQ(Run({"corpus", "upload", one, two, "--label", "task=qa"}), kOk);
  EXPECT_THAT(server_.secateur.uploads().chunks, ElementsAre("1\n", "2\n"));
  EXPECT_THAT(out_, AllOf(HasSubstr(one), HasSubstr(two)));
  EXPECT_EQ(Run({"corpus", "upload", one}), kOk);
  EXPECT_EQ(server_.secateur.uploads().metadata.format(), v1::TEXT);  // by its name
}

TEST_F(CliTest, PrintsAnUploadAsJson) {
  const std::string file = dir_.Write("a.jsonl", "1\n2\n");
  EXPECT_EQ(Run({"corpus", "upload", file, "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<v1::UploadCorpusResponse>().corpus().document_count(), 2);
}

TEST_F(CliTest, UploadsWhatAListNames) {
  dir_.Write("data/a.jsonl", "1\n");
  dir_.Write("data/b.jsonl", "2\n3\n");
  const std::string list = dir_.Write("data/list.json", R"([
      {"file": "a.jsonl", "labels": {"language": "en"}, "purpose": "CALIBRATION", "documents": 1},
      {"file": "b.jsonl", "labels": {"language": "de"}, "purpose": "EVALUATION", "documents": 5}])");
  EXPECT_EQ(Run({"corpus", "upload", "--manifest", list}), kOk) << err_;
  EXPECT_THAT(server_.secateur.uploads().chunks, ElementsAre("1\n", "2\n3\n"));
  EXPECT_EQ(server_.secateur.uploads().metadata.corpus().labels().at("language"), "de");
  EXPECT_EQ(server_.secateur.uploads().metadata.corpus().purpose(), v1::EVALUATION);
  EXPECT_THAT(err_, HasSubstr("b.jsonl holds 2 documents; the list says 5"));
}

TEST_F(CliTest, RefusesListsThatAreNone) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "JSON array"},
      {"{}", "JSON array"},
      {"[]", "JSON array"},
      {"[1]", "entry 1 is not an object"},
      {R"([{"labels": {}}])", "needs \"file\""},
      {R"([{"file": 7, "labels": {}}])", "needs \"file\""},
      {R"([{"file": "../secret", "labels": {}}])", "inside the list's folder"},
      {R"([{"file": "/etc/passwd", "labels": {}}])", "inside the list's folder"},
      {R"([{"file": "a"}])", "needs \"labels\""},
      {R"([{"file": "a", "labels": {"k": 1}}])", "needs \"labels\""},
      {R"([{"file": "a", "labels": {}, "purpose": 1}])", "\"purpose\""},
      {R"([{"file": "a", "labels": {}, "documents": -1}])", "\"documents\""},
      {R"([{"file": "a", "labels": {}}, {"file": "b", "labels": []}])", "entry 2"},
      {R"([{"file": "a", "labels": {}, "purpose": "TRAINING"}])", "calibration, evaluation"},
  };
  for (const auto& [text, complaint] : cases) {
    EXPECT_EQ(Run({"corpus", "upload", "--manifest", dir_.Write("list.json", text)}), kUsage)
        << text;
    EXPECT_THAT(err_, HasSubstr(complaint)) << text;
  }
  EXPECT_EQ(Run({"corpus", "upload", "--manifest", dir_.Join("none.json")}), kNotFound);
}

TEST_F(CliTest, NamesTheFileThatCannotBeUploaded) {
  EXPECT_EQ(Run({"corpus", "upload", dir_.Join("none.jsonl")}), kNotFound);
  EXPECT_THAT(err_, HasSubstr("none.jsonl"));
  EXPECT_EQ(Run({"corpus", "upload", dir_.path()}), kNotFound);
  EXPECT_THAT(err_, HasSubstr("cannot read " + dir_.path()));
  server_.secateur.refusal = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "line 3: no text");
  const std::string bad = dir_.Write("bad.jsonl", "{}");
  const std::string next = dir_.Write("next.jsonl", "{}");
  EXPECT_EQ(Run({"corpus", "upload", bad, next}), kUsage);
  EXPECT_THAT(err_, HasSubstr(bad + ": line 3: no text"));
}

TEST_F(CliTest, ListsAndGetsCorpora) {
  v1::Corpus corpus;
  corpus.set_name("corpora/c7");
  corpus.set_purpose(v1::EVALUATION);
  (*corpus.mutable_labels())["language"] = "ko";
  (*corpus.mutable_labels())["domain"] = "legal";
  server_.secateur.corpora = {corpus};
  EXPECT_EQ(Run({"corpus", "list", "--filter", "labels.language = \"ko\""}), kOk);
  EXPECT_EQ(server_.secateur.filter, "labels.language = \"ko\"");
  EXPECT_THAT(out_, AllOf(HasSubstr("corpora/c7"), HasSubstr("evaluation"),
                          HasSubstr("domain=legal language=ko")));
  EXPECT_EQ(Run({"corpus", "list", "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<v1::ListCorporaResponse>().corpora(0).name(), "corpora/c7");
  EXPECT_EQ(Run({"corpus", "get", "c7", "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<v1::Corpus>().labels().at("domain"), "legal");
  EXPECT_EQ(Run({"corpus", "get", "corpora/c8"}), kNotFound);
}

TEST_F(CliTest, ReplacesLabels) {
  EXPECT_EQ(Run({"corpus", "label", "c7", "--label", "task=qa", "--etag", "e5"}), kOk);
  const v1::UpdateCorpusRequest& request = server_.secateur.update_request;
  EXPECT_EQ(request.corpus().name(), "corpora/c7");
  EXPECT_EQ(request.corpus().etag(), "e5");
  EXPECT_EQ(request.corpus().labels().at("task"), "qa");
  EXPECT_THAT(request.update_mask().paths(), ElementsAre("labels"));
}

TEST_F(CliTest, DeletesACorpusWithItsProfilesOnlyWhenForced) {
  EXPECT_EQ(Run({"corpus", "delete", "c7"}), kOk);
  EXPECT_FALSE(server_.secateur.delete_corpus_request.force());
  EXPECT_EQ(out_, "deleted corpora/c7\n");
  EXPECT_EQ(Run({"corpus", "delete", "c7", "--force", "--output", "json"}), kOk);
  EXPECT_TRUE(server_.secateur.delete_corpus_request.force());
  EXPECT_EQ(out_, "{}\n");
}

}  // namespace
}  // namespace secateur::cli
