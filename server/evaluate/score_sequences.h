// How likely a model finds the ends of token sequences, in packed blocks.
//
// Sequences fill a block until the next one would pass `block_tokens`; one longer than a block has
// a block of its own. A resident model runs each block as it comes. Of a model that is read from
// files blocks wait until they are worth reading all layers for: memory is one layer and the hidden
// states of as many blocks as fit into 64 MiB (one block at least); each such group reads every
// layer once.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/base/run_context.h"
#include "server/evaluate/layered_model.h"
#include "server/model/packed_batch.h"

namespace secateur {

// Runs work that needs the device when it is its turn (pipeline/device_lane.h).
using DeviceTurn = std::function<absl::Status(const std::function<absl::Status()>& work)>;

struct ScoreOptions {
  int64_t block_tokens = 2048;  // of one forward pass, at least 1
  DeviceTurn turn;              // taken for a layer of a group at a time; empty: at once
};

// One thread at a time. After an error nothing further may be called.
class SequenceScorer {
 public:
  // Gets the negative log-likelihood in nats of ids[start, end) given all tokens before each: 0
  // when there is none of them.
  using Done = std::function<absl::Status(double nats)>;

  // `model` and `context` must outlive the scorer.
  SequenceScorer(const LayeredModel& model, ScoreOptions options, RunContext& context)
      : model_(model), options_(std::move(options)), context_(context) {}

  // Scores now or later; `done` is called once, in the order of Add(). INVALID_ARGUMENT for no ids,
  // a start below 1, a sequence longer than the model's positions or an id outside its vocabulary;
  // DATA_LOSS when a likelihood is not finite; what `done` says.
  absl::Status Add(std::vector<int32_t> ids, int64_t start, Done done);
  // Scores what waits.
  absl::Status Finish();

 private:
  struct Block {
    PackedBatch batch{{}, {0}};
    std::vector<int64_t> starts;  // of each sequence
    std::vector<Done> done;
    std::optional<LayerRunner> runner;
    at::Tensor hidden;
    std::vector<double> nll;
  };

  absl::Status Close();
  absl::Status RunGroup();
  // In one turn.
  absl::Status ForEachBlock(const std::function<absl::Status(Block&)>& work);
  absl::Status HandOut(const Block& block);

  const LayeredModel& model_;
  const ScoreOptions options_;
  RunContext& context_;
  Block filling_;
  std::deque<Block> group_;  // blocks stay where they are: runners refer to their batches
  int64_t group_bytes_ = 0;  // of all hidden states
};

}  // namespace secateur
