// secateur corpus upload.
#include "client/cli/corpus_upload.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/corpus_list_file.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/parse.h"
#include "client/cli/progress.h"

namespace secateur::cli {
namespace {

// One corpus to upload.
struct Upload {
  std::string path;  // "-" is the standard input
  v1::UploadCorpusMetadata metadata;
  int64_t documents = 0;  // expected; 0 when not known
};

absl::StatusOr<Upload> MakeUpload(const std::string& path,
                                  const std::map<std::string, std::string>& labels,
                                  const std::string& purpose, const UploadOptions& options) {
  const auto purpose_number = ParseEnum("purpose", purpose, *v1::CorpusPurpose_descriptor());
  if (!purpose_number.ok()) return purpose_number.status();
  const bool is_text = options.format.empty() && absl::EndsWith(path, ".txt");
  const auto format =
      ParseEnum("--format", is_text ? "text" : options.format, *v1::CorpusFormat_descriptor());
  if (!format.ok()) return format.status();
  Upload upload;
  upload.path = path;
  upload.metadata.set_format(static_cast<v1::CorpusFormat>(*format));
  v1::Corpus& corpus = *upload.metadata.mutable_corpus();
  corpus.set_purpose(static_cast<v1::CorpusPurpose>(*purpose_number));
  corpus.mutable_labels()->insert(labels.begin(), labels.end());
  if (!options.display_name.empty()) {
    corpus.set_display_name(options.display_name);
  } else if (path != "-") {
    corpus.set_display_name(std::filesystem::path(path).filename().string());
  }
  return upload;
}

absl::StatusOr<std::vector<Upload>> ListedUploads(const UploadOptions& options) {
  const auto corpora = ReadCorpusList(options.manifest);
  if (!corpora.ok()) return corpora.status();
  std::vector<Upload> uploads;
  for (const ListedCorpus& corpus : *corpora) {
    auto upload = MakeUpload(corpus.path, corpus.labels, corpus.purpose, options);
    if (!upload.ok()) return upload.status();
    upload->documents = corpus.documents;
    uploads.push_back(*std::move(upload));
  }
  return uploads;
}

absl::StatusOr<std::vector<Upload>> NamedUploads(const UploadOptions& options) {
  if (options.files.empty()) {
    return absl::InvalidArgumentError("name the files to upload, or a list with --manifest");
  }
  const auto labels = ParseLabels("--label", options.labels);
  if (!labels.ok()) return labels.status();
  std::vector<Upload> uploads;
  for (const std::string& file : options.files) {
    auto upload = MakeUpload(file, *labels, options.purpose, options);
    if (!upload.ok()) return upload.status();
    uploads.push_back(*std::move(upload));
  }
  return uploads;
}

absl::StatusOr<v1::UploadCorpusResponse> Send(const SecateurClient& client, const Upload& upload,
                                              Context& context) {
  std::ifstream file;
  const bool from_input = upload.path == "-";
  if (!from_input) file.open(upload.path, std::ios::binary);
  std::istream& in = from_input ? context.in : file;
  if (!from_input && !file.is_open()) {
    return absl::NotFoundError(absl::StrCat("cannot open ", upload.path));
  }
  ProgressBar bar(context.err, context.err_is_terminal);
  double sent = 0;
  return client.UploadCorpus(
      upload.metadata, [&](char* buffer, size_t capacity) -> absl::StatusOr<size_t> {
        in.read(buffer, static_cast<std::streamsize>(capacity));
        if (in.bad()) return absl::NotFoundError(absl::StrCat("cannot read ", upload.path));
        sent += static_cast<double>(in.gcount());
        bar.Show(-1, absl::StrCat("upload  ", Printable(upload.path), "  ", FormatBytes(sent)));
        return static_cast<size_t>(in.gcount());
      });
}

std::string Describe(const v1::UploadCorpusResponse& response, const std::string& path) {
  const v1::Corpus& corpus = response.corpus();
  std::string text = absl::StrCat(corpus.name(), "  ", response.existed() ? "known" : "new", "  ",
                                  FormatNumber(corpus.document_count(), "document", "documents"),
                                  "  ", FormatBytes(static_cast<double>(corpus.text_bytes())), "  ",
                                  FormatLabels(corpus.labels()), "  ", path);
  if (corpus.dropped_field_count() > 0) {
    absl::StrAppend(&text, "  (", corpus.dropped_field_count(), " other JSON fields dropped)");
  }
  return Printable(text);
}

absl::Status UploadOne(const SecateurClient& client, const Upload& upload, Context& context) {
  const auto response = Send(client, upload, context);
  if (!response.ok()) return WithPrefix(upload.path, response.status());
  const int64_t documents = response->corpus().document_count();
  if (upload.documents > 0 && upload.documents != documents) {
    context.err << "secateur: " << upload.path << " holds " << documents
                << " documents; the list says " << upload.documents << "\n";
  }
  if (context.json) return PrintJson(*response, context);
  context.out << Describe(*response, upload.path) << "\n";
  return absl::OkStatus();
}

}  // namespace

absl::Status CorpusUpload(const SecateurClient& client, const UploadOptions& options,
                          Context& context) {
  const auto uploads = options.manifest.empty() ? NamedUploads(options) : ListedUploads(options);
  if (!uploads.ok()) return uploads.status();
  for (const Upload& upload : *uploads) {
    if (absl::Status status = UploadOne(client, upload, context); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace secateur::cli
