#include "server/pipeline/opened_expert.h"

#include <utility>

#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"

namespace secateur {

absl::StatusOr<std::unique_ptr<const OpenedExpert>> OpenedExpert::Open(const ResidentModel& base,
                                                                       const std::string& path) {
  ASSIGN_OR_RETURN(std::shared_ptr<const ModelFolder> folder, ModelFolder::Open(path));
  std::unique_ptr<OpenedExpert> expert(new OpenedExpert(base, std::move(folder)));
  if (expert->folder().config().vocabulary_size != base.config().vocabulary_size) {
    ASSIGN_OR_RETURN(const auto json, MappedFile::Open(path + "/tokenizer.json"));
    ASSIGN_OR_RETURN(expert->own_tokenizer_, Tokenizer::FromJson(json->bytes()));
    ASSIGN_OR_RETURN(expert->own_outer_, LoadOuter(expert->folder(), base.transformer().device()));
  }
  return expert;
}

LayeredModel OpenedExpert::model() const {
  const Transformer& base = base_.transformer();
  return Streamed(*folder_, own_outer_ ? *own_outer_ : base.outer(), base.device());
}

}  // namespace secateur
