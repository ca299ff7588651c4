// Makes an expert's folder as a caller of server/artifact does: weights, config and carried files.
#pragma once

#include <string>

#include "server/artifact/hf_layout.h"
#include "server/base/status_macros.h"
#include "server/model/weights.h"
#include "server/storage/open_store.h"

namespace secateur {

inline absl::Status WriteExpertFolder(const ModelFolder& base, const Mask& mask,
                                      const std::string& folder,
                                      const HfLayoutOptions& options = {}) {
  RunContext context;
  ASSIGN_OR_RETURN(const auto store, OpenStore("file:" + folder));
  ASSIGN_OR_RETURN(const auto source, MakeSlicedSource(base.config(), base.tensors(), mask));
  RETURN_IF_ERROR(WriteWeights(*source, *store, "", options, context).status());
  const auto width = static_cast<int64_t>(mask.kept[0].size());
  const std::string config = ConfigText(ExpertConfigJson(base.config_json(), width));
  RETURN_IF_ERROR(PutFile("config.json", config, *store, "").status());
  ASSIGN_OR_RETURN(const std::vector<std::string> carried, CarriedFiles(base.path()));
  for (const std::string& name : carried) {
    RETURN_IF_ERROR(CopyFile(base.path() + "/" + name, name, *store, "", context).status());
  }
  return absl::OkStatus();
}

}  // namespace secateur
