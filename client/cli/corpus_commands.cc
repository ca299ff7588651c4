// secateur corpus ...
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/corpus_upload.h"
#include "client/cli/format.h"
#include "client/cli/parse.h"
#include "google/protobuf/empty.pb.h"

namespace secateur::cli {
namespace {

constexpr char kExampleName[] = "c0123456789abcdef0123456789abcdef01234567";

struct ListOptions {
  std::string filter;
};
struct DeleteOptions {
  std::string name;
  bool force = false;
};
struct LabelOptions {
  std::string name, etag;
  std::vector<std::string> labels;
};

Table CorpusTable(const std::vector<v1::Corpus>& corpora) {
  Table table({"CORPUS", "PURPOSE", "DOCUMENTS", "SIZE", "LABELS", "DISPLAY NAME"});
  for (const v1::Corpus& corpus : corpora) {
    table.AddRow({corpus.name(), FormatEnum(*v1::CorpusPurpose_descriptor(), corpus.purpose()),
                  std::to_string(corpus.document_count()),
                  FormatBytes(static_cast<double>(corpus.text_bytes())),
                  FormatLabels(corpus.labels()), corpus.display_name()});
  }
  return table;
}

absl::Status CorpusList(const SecateurClient& client, const ListOptions& options,
                        Context& context) {
  const auto corpora = client.ListCorpora(options.filter);
  if (!corpora.ok()) return corpora.status();
  v1::ListCorporaResponse all;
  all.mutable_corpora()->Add(corpora->begin(), corpora->end());
  return Print(all, CorpusTable(*corpora), context);
}

absl::Status CorpusGet(const SecateurClient& client, const NameOptions& options, Context& context) {
  const auto corpus = client.GetCorpus(FullName("corpora", options.name));
  if (!corpus.ok()) return corpus.status();
  return Print(*corpus, CorpusTable({*corpus}), context);
}

absl::Status CorpusDelete(const SecateurClient& client, const DeleteOptions& options,
                          Context& context) {
  v1::DeleteCorpusRequest request;
  request.set_name(FullName("corpora", options.name));
  request.set_force(options.force);
  if (absl::Status status = client.DeleteCorpus(request); !status.ok()) return status;
  Table table({});
  table.AddRow({"deleted " + request.name()});
  return Print(google::protobuf::Empty(), table, context);
}

absl::Status CorpusLabel(const SecateurClient& client, const LabelOptions& options,
                         Context& context) {
  const auto labels = ParseLabels("--label", options.labels);
  if (!labels.ok()) return labels.status();
  v1::UpdateCorpusRequest request;
  request.mutable_corpus()->set_name(FullName("corpora", options.name));
  request.mutable_corpus()->set_etag(options.etag);
  request.mutable_corpus()->mutable_labels()->insert(labels->begin(), labels->end());
  request.mutable_update_mask()->add_paths("labels");
  const auto corpus = client.UpdateCorpus(request);
  if (!corpus.ok()) return corpus.status();
  return Print(*corpus, CorpusTable({*corpus}), context);
}

void AddUpload(CLI::App& group, Context& context) {
  const auto options = std::make_shared<UploadOptions>();
  CLI::App* command = AddCommand(
      group, "upload", "Upload labelled text; each file is a corpus",
      "  secateur corpus upload legal.jsonl --label language=ko --label domain=legal\n"
      "  secateur corpus upload held-out.jsonl --label language=ko --purpose evaluation\n"
      "  zcat news.txt.gz | secateur corpus upload - --format text --label domain=news\n"
      "  secateur corpus upload --manifest examples/corpora/manifest.json",
      context, options, &CorpusUpload);
  CLI::Option* files = command->add_option("FILE", options->files,
                                           "JSON Lines or plain text; \"-\" is standard input");
  CLI::Option* labels =
      AddRepeated(*command, "--label", options->labels, "KEY=VALUE, such as language=ko");
  CLI::Option* purpose =
      command->add_option("--purpose", options->purpose, "calibration (default) or evaluation");
  command->add_option("--format", options->format,
                      "json-lines (default) or text (default for *.txt)");
  CLI::Option* display = command->add_option("--display-name", options->display_name,
                                             "Free text for people; the file's name if not given");
  command
      ->add_option("--manifest", options->manifest,
                   "JSON list of {file, labels, purpose, documents}: uploads all of them")
      ->excludes(files)
      ->excludes(labels)
      ->excludes(purpose)
      ->excludes(display);
}

void AddDelete(CLI::App& group, Context& context) {
  const auto options = std::make_shared<DeleteOptions>();
  CLI::App* command =
      AddCommand(group, "delete", "Delete a corpus",
                 absl::StrCat("  secateur corpus delete ", kExampleName, " --force"), context,
                 options, &CorpusDelete);
  command->add_option("CORPUS", options->name, "Name of the corpus")->required();
  command->add_flag("--force", options->force, "Delete its profiles as well");
}

void AddLabel(CLI::App& group, Context& context) {
  const auto options = std::make_shared<LabelOptions>();
  CLI::App* command =
      AddCommand(group, "label", "Replace all labels of a corpus",
                 absl::StrCat("  secateur corpus label ", kExampleName, " --label language=ko"),
                 context, options, &CorpusLabel);
  command->add_option("CORPUS", options->name, "Name of the corpus")->required();
  AddRepeated(*command, "--label", options->labels, "KEY=VALUE of the new set")->required();
  command->add_option("--etag", options->etag, "Change it only if it still has this etag");
}

}  // namespace

void AddCorpusCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(program, "corpus", "Labelled text");
  AddUpload(*group, context);
  const auto list_options = std::make_shared<ListOptions>();
  CLI::App* list = AddCommand(*group, "list", "The corpora on the server",
                              "  secateur corpus list\n"
                              "  secateur corpus list --filter 'labels.language = \"ko\"'",
                              context, list_options, &CorpusList);
  list->add_option("--filter", list_options->filter,
                   "labels.KEY = \"VALUE\" and purpose = CALIBRATION, joined by AND");
  const auto get_options = std::make_shared<NameOptions>();
  CLI::App* get =
      AddCommand(*group, "get", "One corpus", absl::StrCat("  secateur corpus get ", kExampleName),
                 context, get_options, &CorpusGet);
  get->add_option("CORPUS", get_options->name, "Name of the corpus")->required();
  AddDelete(*group, context);
  AddLabel(*group, context);
}

}  // namespace secateur::cli
