#include "server/service/find_model.h"

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/names.h"

namespace secateur {

absl::StatusOr<std::shared_ptr<ResidentModel>> FindModel(const JobParts& parts,
                                                         const std::string& parent) {
  ASSIGN_OR_RETURN(const std::string name, ParseModelName(parent, "parent"));
  return parts.models.Get(name);
}

absl::Status CheckDigestKnown(const ResidentModel& model) {
  if (model.DigestIfKnown()) return absl::OkStatus();
  RETURN_IF_ERROR(model.DigestError());
  return WithReason(
      WithRetryAfter(absl::UnavailableError(StrCat("the digest of models/", model.name(),
                                                   " is still being computed: try again")),
                     absl::Seconds(1)),
      "STARTING");
}

}  // namespace secateur
