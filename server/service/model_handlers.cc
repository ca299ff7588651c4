// Models, profiles and dimensions: GetModel, ListModels, CreateProfile, GetProfile, ListProfiles,
// DeleteProfile, ListDimensions.
#include <map>
#include <set>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/build_profile.h"
#include "server/service/convert.h"
#include "server/service/names.h"
#include "server/service/paging.h"
#include "server/service/secateur_service.h"
#include "server/service/submit.h"

namespace secateur {
namespace {

absl::StatusOr<ProfileInfo> FindProfile(const ServiceParts& parts, const std::string& name) {
  ASSIGN_OR_RETURN(const ChildName parsed, ParseProfileName(name, "name"));
  auto profile = parts.stores.profiles.Find(parsed.id);
  if (!profile) {  // another server may have just made it
    RETURN_IF_ERROR(parts.stores.profiles.Load());
    profile = parts.stores.profiles.Find(parsed.id);
  }
  if (profile && profile->key.model == parsed.model) return *profile;
  return WithResource(absl::NotFoundError(StrCat(name, " does not exist")), "secateur.dev/Profile",
                      name);
}

// The profiles of a model, whose name must be known.
absl::StatusOr<std::vector<ProfileInfo>> ProfilesOf(const ServiceParts& parts,
                                                    const std::string& parent) {
  ASSIGN_OR_RETURN(const std::string model, ParseModelName(parent, "parent"));
  RETURN_IF_ERROR(CheckModelExists(parts.models, model));
  std::vector<ProfileInfo> profiles = parts.stores.profiles.List();
  std::erase_if(profiles, [&](const ProfileInfo& p) { return p.key.model != model; });
  return profiles;
}

// Which calibration corpora a request means, checked.
absl::StatusOr<std::vector<std::string>> CorporaOf(const JobParts& parts,
                                                   const v1::CreateProfileRequest& request) {
  std::vector<std::string> ids;
  if ((request.corpora_size() > 0) == !request.filter().empty()) {
    return WithField(absl::InvalidArgumentError("give either corpora or filter"), "corpora");
  }
  if (request.corpora_size() > 256) {
    return WithField(absl::InvalidArgumentError("corpora: at most 256"), "corpora");
  }
  for (int i = 0; i < request.corpora_size(); ++i) {
    const std::string field = StrCat("corpora[", i, "]");
    ASSIGN_OR_RETURN(const std::string id, ParseCorpusName(request.corpora(i), field));
    ASSIGN_OR_RETURN(const CorpusInfo corpus, parts.stores.corpora.Get(id));
    if (corpus.purpose == CorpusPurpose::kEvaluation) {
      return WithField(
          absl::FailedPreconditionError(StrCat(request.corpora(i),
                                               " is an EVALUATION corpus, which is held out "
                                               "and never profiled")),
          field);
    }
    ids.push_back(id);
  }
  if (!request.filter().empty()) {
    ASSIGN_OR_RETURN(CorpusFilter filter,
                     ParseCorpusFilter(request.filter() == "*" ? "" : request.filter(), "filter"));
    filter.purpose = CorpusPurpose::kCalibration;
    std::vector<CorpusInfo> found = parts.stores.corpora.List(filter);
    if (found.empty()) {  // another server may have just added one
      RETURN_IF_ERROR(parts.stores.corpora.Refresh());
      found = parts.stores.corpora.List(filter);
    }
    for (const CorpusInfo& corpus : found) ids.push_back(corpus.id());
    if (ids.empty()) {
      return WithField(absl::FailedPreconditionError(
                           StrCat("filter ", request.filter(), " matches no calibration corpus")),
                       "filter");
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Sorts by key, then value: a space is below all that they may hold.
std::string DimensionKey(const std::string& key, const std::string& value) {
  return key + " " + value;
}

std::vector<v1::Dimension> DimensionsOf(const std::vector<CorpusInfo>& corpora,
                                        const std::vector<ProfileInfo>& profiles) {
  constexpr int kListed = 50;
  std::map<Digest, int64_t> tokens;  // of profiled corpora
  for (const ProfileInfo& profile : profiles) tokens[profile.key.corpus_digest] = profile.tokens;
  std::map<std::string, v1::Dimension> dimensions;
  for (const CorpusInfo& corpus : corpora) {
    for (const auto& [key, value] : corpus.labels) {
      v1::Dimension& dimension = dimensions[DimensionKey(key, value)];
      dimension.set_key(key);
      dimension.set_value(value);
      dimension.set_corpus_count(dimension.corpus_count() + 1);
      dimension.set_document_count(dimension.document_count() + corpus.documents);
      const auto profiled = tokens.find(corpus.digest);
      if (profiled != tokens.end()) {
        dimension.set_profiled_corpus_count(dimension.profiled_corpus_count() + 1);
        dimension.set_token_count(dimension.token_count() + profiled->second);
      } else if (dimension.unprofiled_corpora_size() < kListed) {
        dimension.add_unprofiled_corpora(CorpusName(corpus.id()));
      }
    }
  }
  std::vector<v1::Dimension> sorted;
  for (auto& [key, dimension] : dimensions) sorted.push_back(std::move(dimension));
  return sorted;
}

}  // namespace

SecateurService::Reactor* SecateurService::GetModel(Context* context,
                                                    const v1::GetModelRequest* request,
                                                    v1::Model* response) {
  return parts_.calls.Unary(
      context, "GetModel", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::string name, ParseModelName(request->name(), "name"));
        RETURN_IF_ERROR(CheckModelExists(parts_.models, name));
        for (const ResidentModels::State& state : parts_.models.List()) {
          if (state.name == name) *response = ToProto(state);
        }
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::ListModels(Context* context,
                                                      const v1::ListModelsRequest* request,
                                                      v1::ListModelsResponse* response) {
  return parts_.calls.Unary(
      context, "ListModels", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(auto page,
                         Paginate(parts_.models.List(), request->page_size(), request->page_token(),
                                  [](const ResidentModels::State& state) { return state.name; }));
        for (const auto& state : page.items) *response->add_models() = ToProto(state);
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::CreateProfile(Context* context,
                                                         const v1::CreateProfileRequest* request,
                                                         google::longrunning::Operation* response) {
  return parts_.calls.Unary(
      context, "CreateProfile", *request, [this, request, response]() -> absl::Status {
        RETURN_IF_ERROR(CheckRequestId(request->request_id()));
        ASSIGN_OR_RETURN(const std::string name, ParseModelName(request->parent(), "parent"));
        ASSIGN_OR_RETURN(const auto model, parts_.models.Get(name));
        ASSIGN_OR_RETURN(const std::vector<std::string> ids, CorporaOf(parts_, *request));
        const int64_t tokens = request->max_document_tokens();
        if (tokens != 0) {
          RETURN_IF_ERROR(
              CheckDocumentTokens(tokens, model->config().max_positions, "max_document_tokens"));
        }
        ASSIGN_OR_RETURN(*response, Submit(parts_.jobs, "CreateProfile", request->parent(),
                                           request->request_id(), *request));
        return absl::OkStatus();
      });
}

ProfileSettings ProfileSettingsOf(const v1::CreateProfileRequest& request, int64_t max_positions) {
  const int64_t tokens = request.max_document_tokens() != 0 ? request.max_document_tokens()
                                                            : std::min<int64_t>(512, max_positions);
  return {.max_document_tokens = tokens, .attention = request.attention()};
}

absl::StatusOr<Job> MakeProfileJob(const JobParts& parts, const OperationRequest& operation) {
  v1::CreateProfileRequest request;
  request.ParseFromString(operation.request);
  ASSIGN_OR_RETURN(const std::string name, ParseModelName(request.parent(), "parent"));
  ASSIGN_OR_RETURN(auto model, parts.models.Get(name));
  ASSIGN_OR_RETURN(const std::vector<std::string> ids, CorporaOf(parts, request));
  std::vector<CorpusInfo> corpora;
  for (const std::string& id : ids) {
    ASSIGN_OR_RETURN(corpora.emplace_back(), parts.stores.corpora.Get(id));
  }
  const ProfileSettings settings = ProfileSettingsOf(request, model->config().max_positions);
  return Job([parts, model = std::move(model), corpora = std::move(corpora),
              settings](RunContext& run) -> absl::StatusOr<TypedBytes> {
    ASSIGN_OR_RETURN(const BuiltProfiles built,
                     BuildProfiles(*model, corpora, settings, parts.stores, run));
    v1::CreateProfileResponse response;
    for (const ProfileInfo& profile : built.profiles) *response.add_profiles() = ToProto(profile);
    response.set_cached_count(built.cached);
    return ToTypedBytes(response);
  });
}

SecateurService::Reactor* SecateurService::GetProfile(Context* context,
                                                      const v1::GetProfileRequest* request,
                                                      v1::Profile* response) {
  return parts_.calls.Unary(
      context, "GetProfile", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const ProfileInfo profile, FindProfile(parts_, request->name()));
        *response = ToProto(profile);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::ListProfiles(Context* context,
                                                        const v1::ListProfilesRequest* request,
                                                        v1::ListProfilesResponse* response) {
  return parts_.calls.Unary(
      context, "ListProfiles", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(std::vector<ProfileInfo> profiles, ProfilesOf(parts_, request->parent()));
        ASSIGN_OR_RETURN(const auto page,
                         Paginate(std::move(profiles), request->page_size(), request->page_token(),
                                  [](const ProfileInfo& profile) { return profile.id(); }));
        for (const ProfileInfo& profile : page.items) *response->add_profiles() = ToProto(profile);
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::DeleteProfile(Context* context,
                                                         const v1::DeleteProfileRequest* request,
                                                         google::protobuf::Empty*) {
  return parts_.calls.Unary(context, "DeleteProfile", *request, [this, request]() -> absl::Status {
    ASSIGN_OR_RETURN(const ProfileInfo profile, FindProfile(parts_, request->name()));
    return parts_.stores.profiles.Delete(profile.id());
  });
}

SecateurService::Reactor* SecateurService::ListDimensions(Context* context,
                                                          const v1::ListDimensionsRequest* request,
                                                          v1::ListDimensionsResponse* response) {
  return parts_.calls.Unary(
      context, "ListDimensions", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::vector<ProfileInfo> profiles,
                         ProfilesOf(parts_, request->parent()));
        const std::vector<CorpusInfo> corpora =
            parts_.stores.corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration});
        ASSIGN_OR_RETURN(const auto page,
                         Paginate(DimensionsOf(corpora, profiles), request->page_size(),
                                  request->page_token(), [](const v1::Dimension& dimension) {
                                    return DimensionKey(dimension.key(), dimension.value());
                                  }));
        for (const v1::Dimension& dimension : page.items) *response->add_dimensions() = dimension;
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

}  // namespace secateur
