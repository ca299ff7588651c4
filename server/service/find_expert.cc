#include "server/service/find_expert.h"

#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/convert.h"
#include "server/service/names.h"

namespace secateur {

absl::StatusOr<FoundExpert> FindExpertByName(const JobParts& parts, const std::string& name) {
  ASSIGN_OR_RETURN(const ChildName parsed, ParseExpertName(name, "name"));
  auto stored = parts.stores.experts.Find(parsed.id);
  if (!stored) {  // another server may have just made it
    RETURN_IF_ERROR(parts.stores.experts.Load());
    stored = parts.stores.experts.Find(parsed.id);
  }
  if (stored) {
    ASSIGN_OR_RETURN(v1::Expert proto, ToProto(*stored, parts.stores.blobs.uri()));
    if (proto.name() == name) return FoundExpert{*std::move(stored), std::move(proto)};
  }
  return WithResource(absl::NotFoundError(StrCat(name, " does not exist")), "secateur.dev/Expert",
                      name);
}

}  // namespace secateur
