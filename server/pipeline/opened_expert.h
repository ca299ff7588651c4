// An expert's folder as checks and measures use it: layers are read one at a time; embedding, head
// and tokenizer are the base's, or its own where its vocabulary was trimmed. Immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/evaluate/layered_model.h"
#include "server/pipeline/resident_models.h"

namespace secateur {

class OpenedExpert {
 public:
  // Where rows are fewer than the base's the folder's own embedding and tokenizer.json are read;
  // else they must be the base's, byte for byte. `base` must outlive the expert. Errors as
  // ModelFolder::Open() and Tokenizer::FromJson().
  static absl::StatusOr<std::unique_ptr<const OpenedExpert>> Open(const ResidentModel& base,
                                                                  const std::string& path);

  const ModelFolder& folder() const { return *folder_; }
  const Tokenizer& tokenizer() const {
    return own_tokenizer_ ? *own_tokenizer_ : base_.tokenizer();
  }
  bool has_own_vocabulary() const { return own_tokenizer_ != nullptr; }
  // Refers to this object.
  LayeredModel model() const;

 private:
  OpenedExpert(const ResidentModel& base, std::shared_ptr<const ModelFolder> folder)
      : base_(base), folder_(std::move(folder)) {}

  const ResidentModel& base_;
  const std::shared_ptr<const ModelFolder> folder_;
  std::unique_ptr<const Tokenizer> own_tokenizer_;
  std::optional<OuterWeights> own_outer_;
};

}  // namespace secateur
