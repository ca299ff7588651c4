#include "server/service/find_model.h"

#include "server/base/status_macros.h"
#include "server/service/names.h"

namespace secateur {

absl::StatusOr<std::shared_ptr<ResidentModel>> FindModel(const JobParts& parts,
                                                         const std::string& parent) {
  ASSIGN_OR_RETURN(const std::string name, ParseModelName(parent, "parent"));
  return parts.models.Get(name);
}

}  // namespace secateur
