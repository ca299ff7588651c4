// An expert as a Hugging Face folder: weights in shards with their index, config.json with the new
// width and all unknown keys kept in their order, and the base's tokenizer, generation config, chat
// template and licence files as they are (a trimmed vocabulary brings files of its own for some).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "server/artifact/slice_plan.h"
#include "server/artifact/tensor_source.h"
#include "server/base/digest.h"
#include "server/base/run_context.h"
#include "server/model/config.h"
#include "server/profile/attention_sets.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct ArtifactFile {
  std::string name;  // "model.safetensors": no folders
  int64_t size = 0;
  Digest digest;
};

struct HfLayoutOptions {
  int64_t max_shard_bytes = 5'000'000'000;  // of tensors; one larger tensor has a shard of its own
  int threads = 2;                          // shards written side by side
};

// Tensors cut from a base folder. `base` and what `cut` refers to must outlive the source.
absl::StatusOr<std::unique_ptr<TensorSource>> MakeSlicedSource(const ModelConfig& config,
                                                               const SafetensorsFolder& base,
                                                               const Cut& cut);

// What of an expert's shape its config.json says.
struct ExpertShape {
  int64_t width = 0;                    // FFN neurons of every layer
  std::optional<int64_t> vocabulary;    // rows, where some go
  std::optional<AttentionHeads> heads;  // of every layer, where some go
  bool ffn_bias = false;                // biases of the FFN come
};
// The base's config.json with `intermediate_size` and, where `shape` says more, `vocab_size`,
// `num_attention_heads`, `num_key_value_heads` and `head_dim` (without which a reader would divide
// the hidden size by the heads), `mlp_bias`; nothing else changes.
nlohmann::ordered_json ExpertConfigJson(const nlohmann::ordered_json& base,
                                        const ExpertShape& shape);
// The bytes of config.json: two spaces of indent and a newline, as Transformers writes it.
std::string ConfigText(const nlohmann::ordered_json& config);

// Files of a base folder that an expert carries over unchanged (tokenizer.json,
// tokenizer_config.json, special_tokens_map.json, added_tokens.json, vocab.json, merges.txt,
// tokenizer.model, chat_template.*, generation_config.json, and in any case LICENSE*, LICENCE*,
// COPYING*, NOTICE*, USE_POLICY*, *TERMS*), sorted by name. Links are followed. INVALID_ARGUMENT
// for such a file whose name a store cannot hold.
absl::StatusOr<std::vector<std::string>> CarriedFiles(const std::string& base_folder);

// Writes model*.safetensors (and model.safetensors.index.json when there are several) under
// `prefix` ("experts/e12…/a1b2/", ends with '/'). Memory: a few MiB a thread. Reports "write" in
// bytes; stops within one tensor after a cancel. The files, sorted by name. After an error some
// shards may be there: the caller discards the prefix (ExpertStore::Discard).
absl::StatusOr<std::vector<ArtifactFile>> WriteWeights(const TensorSource& source, BlobStore& store,
                                                       const std::string& prefix,
                                                       const HfLayoutOptions& options,
                                                       RunContext& context);

// Copies a small or large file of the base folder; puts bytes that we made.
absl::StatusOr<ArtifactFile> CopyFile(const std::string& path, const std::string& name,
                                      BlobStore& store, const std::string& prefix,
                                      RunContext& context);
absl::StatusOr<ArtifactFile> PutFile(const std::string& name, std::string_view bytes,
                                     BlobStore& store, const std::string& prefix);

}  // namespace secateur
