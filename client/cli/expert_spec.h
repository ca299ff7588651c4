// The options that describe an expert, and the ExpertSpec they make. Shared by plan and create.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/commands.h"
#include "secateur/v1/resources.pb.h"

namespace secateur::cli {

struct SpecOptions {
  std::string model;
  // What for. `select` and `weights` are KEY=VALUE.
  std::vector<std::string> languages, domains, tasks, select, weights;
  // How large; each entry is one size.
  std::vector<std::string> remove, remove_parameters, max_parameters, max_bytes, sigmas;
  std::vector<int64_t> widths;
  std::string of;              // what --remove-parameters is a share of
  bool attention = false;      // channels of attention go, too
  std::string kv_head_groups;  // KV head groups go, too: how many stay, or "auto"
  bool trim_vocabulary = false;
  int64_t vocabulary_size = 0;  // implies trim_vocabulary
  // How. Empty or 0: the server's default.
  std::string rule, quantile, source, target, shape, compensation, general_weight;
  int32_t tensor_parallel = 0;
  int64_t max_document_tokens = 0;
  std::vector<std::string> evaluation_corpora;
};

void AddSpecOptions(CLI::App& command, SpecOptions& options);

// The spec without a budget. Errors: INVALID_ARGUMENT, with the option.
absl::StatusOr<v1::ExpertSpec> MakeSpec(const SpecOptions& options);

// The sizes asked for, by kind of option, in their order within a kind; at least one, unless the
// vocabulary is to be trimmed: then none means that no neurons go.
// Errors: INVALID_ARGUMENT, with the option.
absl::StatusOr<std::vector<v1::Budget>> MakeBudgets(const SpecOptions& options);

}  // namespace secateur::cli
