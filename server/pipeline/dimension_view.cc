#include "server/pipeline/dimension_view.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/build_profile.h"

namespace secateur {
namespace {

absl::StatusOr<std::shared_ptr<const RelevanceView>> ViewOfProfile(const ProfileInfo& profile,
                                                                   Stores stores) {
  const std::string key = profile.content.Hex();
  if (auto view = stores.views.Find(key)) return view;
  ASSIGN_OR_RETURN(const Profile read, stores.profiles.Read(profile.id()));
  return stores.views.Insert(key, ViewOf(read));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const RelevanceView>> MergedView(
    const std::vector<const ProfileInfo*>& profiles, Stores stores) {
  if (profiles.size() == 1) return ViewOfProfile(*profiles[0], stores);
  Sha256 hash;
  for (const ProfileInfo* profile : profiles) hash.UpdateField(profile->content.Hex());
  const std::string key = hash.Finish().Hex();
  if (auto view = stores.views.Find(key)) return view;
  std::vector<std::shared_ptr<const RelevanceView>> parts;
  std::vector<const RelevanceView*> views;
  for (const ProfileInfo* profile : profiles) {
    ASSIGN_OR_RETURN(parts.emplace_back(), ViewOfProfile(*profile, stores));
    views.push_back(parts.back().get());
  }
  ASSIGN_OR_RETURN(RelevanceView merged, MergeViews(views));
  return stores.views.Insert(key, std::move(merged));
}

absl::StatusOr<std::vector<ProfileInfo>> FindProfiles(const ResidentModel& model,
                                                      const std::vector<CorpusInfo>& corpora,
                                                      const ProfileSettings& settings,
                                                      std::string_view field, Stores stores) {
  std::vector<ProfileInfo> profiles;
  std::vector<std::string> missing;
  for (const CorpusInfo& corpus : corpora) {
    ASSIGN_OR_RETURN(const ProfileKey key, ProfileKeyFor(model, corpus, settings));
    if (auto profile = FindProfile(stores.profiles, key)) {
      profiles.push_back(*std::move(profile));
    } else {
      missing.push_back("corpora/" + corpus.id());
    }
  }
  if (missing.empty()) return profiles;
  const size_t count = missing.size();
  if (missing.size() > 5) missing.resize(5);
  return WithReason(WithField(absl::FailedPreconditionError(StrCat(
                                  count, " corpora have no profile on models/", model.name(),
                                  " with max_document_tokens ", settings.max_document_tokens,
                                  settings.attention ? " and attention: " : ": ",
                                  absl::StrJoin(missing, ", "), count > 5 ? " and more" : "",
                                  "; make them with CreateProfile, or let CreateExpert do it")),
                              field),
                    "PROFILE_MISSING");
}

}  // namespace secateur
