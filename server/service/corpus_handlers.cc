// Corpora: CreateCorpus, GetCorpus, ListCorpora, UpdateCorpus, DeleteCorpus.
#include <algorithm>
#include <optional>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/convert.h"
#include "server/service/corpus_input.h"
#include "server/service/names.h"
#include "server/service/paging.h"
#include "server/service/secateur_service.h"
#include "server/service/submit.h"

namespace secateur {
namespace {

constexpr int64_t kChunk = 1 << 20;

// The generation an etag stands for; nothing for an empty one.
absl::StatusOr<std::optional<int64_t>> GenerationOf(const std::string& etag) {
  if (etag.empty()) return std::nullopt;
  int64_t generation = 0;
  if (absl::SimpleAtoi(etag, &generation)) return generation;
  return WithField(
      absl::AbortedError(StrCat("etag \"", etag.substr(0, 64),
                                "\" is not one of this server: read the corpus again")),
      "etag");
}

// Where the texts are, in the operator's words.
absl::StatusOr<std::vector<std::string>> AllowedUris(const JobParts& parts,
                                                     const v1::CreateCorpusRequest& request) {
  if (request.uris_size() < 1 || request.uris_size() > 256) {
    return WithField(absl::InvalidArgumentError(
                         StrCat("uris: ", request.uris_size(), " given; 1 to 256 are possible")),
                     "uris");
  }
  std::vector<std::string> uris;
  for (int i = 0; i < request.uris_size(); ++i) {
    auto uri = parts.readable.Resolve(request.uris(i), "--allow-read");
    if (!uri.ok()) return WithField(uri.status(), StrCat("uris[", i, "]"));
    uris.push_back(*std::move(uri));
  }
  return uris;
}

// Bytes of all of them. Each is opened alone: a file takes a descriptor, a bucket a client.
absl::StatusOr<int64_t> TotalSize(const JobParts& parts, const std::vector<std::string>& uris,
                                  const RunContext& run) {
  int64_t total = 0;
  for (const std::string& uri : uris) {
    RETURN_IF_ERROR(run.CheckCancelled());
    ASSIGN_OR_RETURN(const CorpusInput input, CorpusInput::Open(uri, parts.stores.requested));
    total += input.size();
  }
  return total;
}

absl::StatusOr<TypedBytes> ReadCorpus(const JobParts& parts, const CorpusInfo& info,
                                      CorpusFormat format, const std::vector<std::string>& uris,
                                      RunContext& run) {
  ASSIGN_OR_RETURN(auto upload, parts.stores.corpora.StartUpload(info, format));
  ASSIGN_OR_RETURN(const int64_t total, TotalSize(parts, uris, run));
  int64_t done = 0;
  for (const std::string& uri : uris) {
    ASSIGN_OR_RETURN(CorpusInput input, CorpusInput::Open(uri, parts.stores.requested));
    for (int64_t at = 0; at < input.size();) {
      RETURN_IF_ERROR(run.CheckCancelled());
      ASSIGN_OR_RETURN(const std::string chunk, input.Read(at, kChunk));
      const absl::Status added = upload->Append(chunk);
      if (!added.ok()) return Annotate(added, input.name());
      at += std::ssize(chunk);
      done += std::ssize(chunk);
      run.Report({"read", done, total, "bytes"});
    }
  }
  ASSIGN_OR_RETURN(const CorpusUpload::Result result, upload->Finish());
  return ToTypedBytes(ToProto(result.corpus));
}

std::vector<ProfileInfo> ProfilesOfCorpus(const ServiceParts& parts, const CorpusInfo& corpus) {
  std::vector<ProfileInfo> profiles = parts.stores.profiles.List();
  std::erase_if(profiles,
                [&](const ProfileInfo& p) { return p.key.corpus_digest != corpus.digest; });
  return profiles;
}

absl::Status Delete(const ServiceParts& parts, const v1::DeleteCorpusRequest& request) {
  ASSIGN_OR_RETURN(const std::string id, ParseCorpusName(request.name(), "name"));
  ASSIGN_OR_RETURN(const CorpusInfo corpus, parts.stores.corpora.Get(id));
  ASSIGN_OR_RETURN(const auto generation, GenerationOf(request.etag()));
  if (generation && *generation != corpus.generation) {
    return WithField(
        absl::AbortedError(StrCat("etag \"", request.etag(), "\" is not the present one, \"",
                                  EtagOf(corpus), "\": read the corpus again")),
        "etag");
  }
  const std::vector<ProfileInfo> profiles = ProfilesOfCorpus(parts, corpus);
  if (!profiles.empty() && !request.force()) {
    return WithField(
        absl::FailedPreconditionError(StrCat(request.name(), " has ", profiles.size(),
                                             " profiles: set force to delete them as well")),
        "force");
  }
  for (const ProfileInfo& profile : profiles) {
    RETURN_IF_ERROR(parts.stores.profiles.Delete(profile.id()));
  }
  return parts.stores.corpora.Delete(id);
}

}  // namespace

absl::StatusOr<Job> MakeCorpusJob(const JobParts& parts, const OperationRequest& operation) {
  v1::CreateCorpusRequest request;
  request.ParseFromString(operation.request);
  ASSIGN_OR_RETURN(CorpusInfo info, CorpusFromProto(request.corpus()));
  ASSIGN_OR_RETURN(std::vector<std::string> uris, AllowedUris(parts, request));
  const CorpusFormat format =
      request.format() == v1::TEXT ? CorpusFormat::kText : CorpusFormat::kJsonLines;
  return Job([parts, info, format, uris](RunContext& run) {
    return ReadCorpus(parts, info, format, uris, run);
  });
}

SecateurService::Reactor* SecateurService::CreateCorpus(Context* context,
                                                        const v1::CreateCorpusRequest* request,
                                                        google::longrunning::Operation* response) {
  return parts_.calls.LongUnary(
      context, "CreateCorpus", *request,
      [this, request, response](RunContext& run) -> absl::Status {
        RETURN_IF_ERROR(CheckRequestId(request->request_id()));
        RETURN_IF_ERROR(CorpusFromProto(request->corpus()).status());
        ASSIGN_OR_RETURN(const std::vector<std::string> uris, AllowedUris(parts_, *request));
        RETURN_IF_ERROR(TotalSize(parts_, uris, run).status());  // they are there
        ASSIGN_OR_RETURN(*response, Submit(parts_.jobs, "CreateCorpus", "corpora",
                                           request->request_id(), *request));
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::GetCorpus(Context* context,
                                                     const v1::GetCorpusRequest* request,
                                                     v1::Corpus* response) {
  return parts_.calls.Unary(
      context, "GetCorpus", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::string id, ParseCorpusName(request->name(), "name"));
        ASSIGN_OR_RETURN(const CorpusInfo corpus, parts_.stores.corpora.Get(id));
        *response = ToProto(corpus);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::ListCorpora(Context* context,
                                                       const v1::ListCorporaRequest* request,
                                                       v1::ListCorporaResponse* response) {
  return parts_.calls.Unary(
      context, "ListCorpora", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const CorpusFilter filter, ParseCorpusFilter(request->filter(), "filter"));
        ASSIGN_OR_RETURN(
            const auto page,
            Paginate(parts_.stores.corpora.List(filter), request->page_size(),
                     request->page_token(), [](const CorpusInfo& corpus) { return corpus.id(); }));
        for (const CorpusInfo& corpus : page.items) *response->add_corpora() = ToProto(corpus);
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::UpdateCorpus(Context* context,
                                                        const v1::UpdateCorpusRequest* request,
                                                        v1::Corpus* response) {
  return parts_.calls.Unary(
      context, "UpdateCorpus", *request, [this, request, response]() -> absl::Status {
        for (const std::string& path : request->update_mask().paths()) {
          if (path != "labels") {
            return WithField(
                absl::InvalidArgumentError(StrCat("update_mask names \"", path.substr(0, 64),
                                                  "\"; only labels can change")),
                "update_mask");
          }
        }
        ASSIGN_OR_RETURN(const std::string id,
                         ParseCorpusName(request->corpus().name(), "corpus.name"));
        ASSIGN_OR_RETURN(const CorpusInfo wanted, CorpusFromProto(request->corpus()));
        ASSIGN_OR_RETURN(const auto generation, GenerationOf(request->corpus().etag()));
        ASSIGN_OR_RETURN(const CorpusInfo corpus,
                         parts_.stores.corpora.UpdateLabels(id, wanted.labels, generation));
        *response = ToProto(corpus);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::DeleteCorpus(Context* context,
                                                        const v1::DeleteCorpusRequest* request,
                                                        google::protobuf::Empty*) {
  return parts_.calls.Unary(context, "DeleteCorpus", *request,
                            [this, request] { return Delete(parts_, *request); });
}

}  // namespace secateur
