// Runs packed documents through the base model and collects a profile: one forward pass, two extra
// reductions a layer.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/model/packed_batch.h"
#include "server/model/transformer.h"
#include "server/profile/profile.h"

namespace secateur {

struct CollectorOptions {
  bool attention = false;  // statistics of attention as well: 5 to 10 % more time
};

// One thread at a time; `model` must outlive it.
class ProfileCollector {
 public:
  static absl::StatusOr<std::unique_ptr<ProfileCollector>> Create(
      const Transformer& model, const CollectorOptions& options = {});
  ~ProfileCollector();

  // A whole block (every sequence is one document). Checks for cancellation between layers; after
  // an error the collector is spent.
  absl::Status Add(const PackedBatch& block, RunContext& context);
  const Profile& profile() const;

 private:
  class Tap;
  explicit ProfileCollector(std::unique_ptr<Tap> tap, const Transformer& model);
  const Transformer& model_;
  std::unique_ptr<Tap> tap_;
};

}  // namespace secateur
