#include "server/pipeline/dimension_view.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/build_profile.h"

namespace secateur {
namespace {

using SharedView = std::shared_ptr<const RelevanceView>;

std::string KeyOf(const std::vector<const ProfileInfo*>& profiles, const ViewOptions& options) {
  Sha256 hash;
  hash.UpdateField(
      absl::StrFormat("%d/%.17g", static_cast<int>(options.statistic), options.quantile));
  for (const ProfileInfo* profile : profiles) hash.UpdateField(profile->content.Hex());
  return hash.Finish().Hex();
}

absl::Status CheckQuantile(double quantile, int64_t documents) {
  const double least = LeastQuantile(documents);
  if (quantile >= least) return absl::OkStatus();
  return WithReason(
      WithField(absl::OutOfRangeError(absl::StrFormat(
                    "spec.quantile: %g is not known of %d documents, whose profiles keep each "
                    "neuron's %d largest ranks: ask for at least %.17g",
                    quantile, documents, kTopRanks, least)),
                "spec.quantile"),
      "QUANTILE_NOT_KEPT");
}

// A profile that is damaged, or that another server deleted, is as good as none: the store has
// forgotten it, and it can be made again.
absl::StatusOr<Profile> ReadProfile(const ProfileInfo& info, const Stores& stores) {
  absl::StatusOr<Profile> profile = stores.profiles.Read(info.id());
  if (!absl::IsNotFound(profile.status())) return profile;
  return WithReason(absl::FailedPreconditionError(
                        StrCat(ToStd(profile.status().message()),
                               "; make it again with CreateProfile, or let CreateExpert do it")),
                    "PROFILE_MISSING");
}

// As if all documents were of one corpus: what lies under a quantile of the whole does not follow
// from quantiles of the parts.
absl::StatusOr<RelevanceView> ViewOfAll(const std::vector<const ProfileInfo*>& profiles,
                                        const ViewOptions& options, const Stores& stores) {
  ASSIGN_OR_RETURN(Profile all, ReadProfile(*profiles[0], stores));
  for (size_t i = 1; i < profiles.size(); ++i) {
    ASSIGN_OR_RETURN(Profile part, ReadProfile(*profiles[i], stores));
    // Of all corpora, or nothing when one has none, as MergeViews.
    if (all.attention.empty() != part.attention.empty()) all.attention = part.attention = {};
    RETURN_IF_ERROR(all.Merge(part));
  }
  RETURN_IF_ERROR(CheckQuantile(options.quantile, all.documents));
  return ViewOf(all, options);
}

absl::StatusOr<RelevanceView> MergeOfViews(const std::vector<const ProfileInfo*>& profiles,
                                           const ViewOptions& options, const Stores& stores) {
  std::vector<SharedView> parts;
  std::vector<const RelevanceView*> views;
  for (const ProfileInfo* profile : profiles) {
    ASSIGN_OR_RETURN(parts.emplace_back(), MergedView({profile}, options, stores));
    views.push_back(parts.back().get());
  }
  return MergeViews(views);
}

}  // namespace

absl::StatusOr<SharedView> MergedView(const std::vector<const ProfileInfo*>& profiles,
                                      const ViewOptions& options, const Stores& stores) {
  const std::string key = KeyOf(profiles, options);
  if (auto view = stores.views.Find(key)) return view;
  const bool whole = profiles.size() == 1 || options.quantile < 1;
  ASSIGN_OR_RETURN(RelevanceView view, whole ? ViewOfAll(profiles, options, stores)
                                             : MergeOfViews(profiles, options, stores));
  const int64_t bytes = view.bytes();
  return stores.views.Insert(key, std::make_shared<const RelevanceView>(std::move(view)), bytes);
}

absl::StatusOr<std::vector<ProfileInfo>> FindProfiles(const ResidentModel& model,
                                                      const std::vector<CorpusInfo>& corpora,
                                                      const ProfileSettings& settings,
                                                      std::string_view field,
                                                      const Stores& stores) {
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
