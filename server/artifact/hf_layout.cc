#include "server/artifact/hf_layout.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/artifact/manifest_files.h"
#include "server/base/mapped_file.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/thread_pool.h"
#include "server/format/safetensors_writer.h"

namespace secateur {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr std::string_view kIndexName = "model.safetensors.index.json";

class SlicedSource final : public TensorSource {
 public:
  SlicedSource(std::vector<TensorSlice> plan, const SafetensorsFolder& base)
      : plan_(std::move(plan)), base_(base) {
    for (const TensorSlice& slice : plan_) specs_.push_back(slice.spec);
  }

  const std::vector<TensorSpec>& specs() const override { return specs_; }

  absl::Status Stream(size_t index, const ByteSink& sink) const override {
    if (plan_[index].replaced != nullptr) return StreamSlice(plan_[index], {}, sink);
    ASSIGN_OR_RETURN(const TensorView view, base_.Find(plan_[index].info.name));
    return StreamSlice(plan_[index], view, sink);
  }

 private:
  const std::vector<TensorSlice> plan_;
  const SafetensorsFolder& base_;
  std::vector<TensorSpec> specs_;
};

struct Shard {
  std::string name;
  size_t begin = 0;  // tensors [begin, end) of the source
  size_t end = 0;
};

std::vector<Shard> MakeShards(const std::vector<TensorSpec>& specs, int64_t max_bytes) {
  std::vector<Shard> shards;
  int64_t bytes = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const int64_t size = ByteSize(specs[i]);
    if (shards.empty() || size > max_bytes - bytes) {
      shards.push_back({"", i, i});
      bytes = 0;
    }
    shards.back().end = i + 1;
    bytes += size;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].name = shards.size() == 1
                         ? "model.safetensors"
                         : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
  }
  return shards;
}

// Keys sorted and two spaces of indent, as Transformers writes it.
std::string IndexText(const std::vector<TensorSpec>& specs, const std::vector<Shard>& shards) {
  nlohmann::json index;
  int64_t total = 0;
  for (const Shard& shard : shards) {
    for (size_t i = shard.begin; i < shard.end; ++i) {
      index["weight_map"][specs[i].name] = shard.name;
      total += ByteSize(specs[i]);
    }
  }
  index["metadata"]["total_size"] = total;
  return index.dump(2) + "\n";
}

// What the threads that write shards share.
class WriteProgress {
 public:
  WriteProgress(int64_t total, RunContext& context) : total_(total), context_(context) {}

  void Add(int64_t bytes) {
    MutexLock lock(mutex_);
    done_ += bytes;
    context_.Report({"write", done_, total_, "bytes"});
  }
  // The first error is the one that the caller sees; it also stops the other threads.
  void Fail(const absl::Status& status) {
    MutexLock lock(mutex_);
    if (status_.ok()) status_ = status;
  }
  absl::Status status() const {
    MutexLock lock(mutex_);
    return status_;
  }
  absl::Status Check() const {
    RETURN_IF_ERROR(context_.CheckCancelled());
    return status();
  }

 private:
  const int64_t total_;
  RunContext& context_;
  mutable Mutex mutex_;
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<ArtifactFile> WriteShard(const TensorSource& source, const Shard& shard,
                                        BlobStore& store, const std::string& prefix,
                                        WriteProgress& progress) {
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> blob, store.Create(prefix + shard.name));
  SafetensorsWriter writer([&blob](std::string_view data) { return blob->Append(data); });
  const auto first = source.specs().begin();
  RETURN_IF_ERROR(writer.Begin({first + static_cast<std::ptrdiff_t>(shard.begin),
                                first + static_cast<std::ptrdiff_t>(shard.end)},
                               {{"format", "pt"}}));
  for (size_t i = shard.begin; i < shard.end; ++i) {
    const absl::Status streamed = source.Stream(i, [&](std::string_view data) -> absl::Status {
      RETURN_IF_ERROR(progress.Check());
      return writer.Write(data);
    });
    RETURN_IF_ERROR(streamed);
    progress.Add(ByteSize(source.specs()[i]));
  }
  RETURN_IF_ERROR(writer.Finish());
  ASSIGN_OR_RETURN(const BlobReceipt receipt, blob->Commit());
  return ArtifactFile{shard.name, receipt.size, receipt.digest};
}

bool StartsWithAny(const std::string& text, std::initializer_list<const char*> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const char* prefix) { return absl::StartsWith(text, prefix); });
}

bool IsCarried(const std::string& name) {
  static constexpr std::string_view kExact[] = {"tokenizer.json",
                                                "tokenizer_config.json",
                                                "special_tokens_map.json",
                                                "added_tokens.json",
                                                "vocab.json",
                                                "merges.txt",
                                                "tokenizer.model",
                                                "generation_config.json"};
  if (std::find(std::begin(kExact), std::end(kExact), name) != std::end(kExact)) return true;
  if (absl::StartsWith(name, "chat_template.")) return true;
  // Licences come in every spelling; Gemma's is called GEMMA_TERMS or "Gemma Terms of Use".
  const std::string upper = absl::AsciiStrToUpper(name);
  return StartsWithAny(upper, {"LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"}) ||
         absl::StrContains(upper, "TERMS");
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> MakeSlicedSource(const ModelConfig& config,
                                                               const SafetensorsFolder& base,
                                                               const Cut& cut) {
  ASSIGN_OR_RETURN(std::vector<TensorSlice> plan, MakeSlicePlan(config, base, cut));
  // Wide elements first keeps every tensor of a mixed checkpoint aligned; others stay as they are.
  std::stable_sort(plan.begin(), plan.end(), [](const TensorSlice& a, const TensorSlice& b) {
    return ItemSize(a.spec.dtype) > ItemSize(b.spec.dtype);
  });
  return std::make_unique<SlicedSource>(std::move(plan), base);
}

nlohmann::ordered_json ExpertConfigJson(const nlohmann::ordered_json& base,
                                        const ExpertShape& shape) {
  nlohmann::ordered_json config = base;
  config["intermediate_size"] = shape.width;
  if (shape.vocabulary) config["vocab_size"] = *shape.vocabulary;
  if (shape.heads) {
    config["num_attention_heads"] = shape.heads->heads;
    config["num_key_value_heads"] = shape.heads->kv_heads;
    config["head_dim"] = shape.heads->head_dim;
  }
  if (shape.ffn_bias) config["mlp_bias"] = true;
  return config;
}

std::string ConfigText(const nlohmann::ordered_json& config) { return config.dump(2) + "\n"; }

absl::StatusOr<std::vector<std::string>> CarriedFiles(const std::string& base_folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(base_folder, error);
  std::vector<std::string> names;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    std::error_code unreadable;  // a link to nowhere is no file
    if (!IsCarried(name) || !entries->is_regular_file(unreadable)) continue;
    RETURN_IF_ERROR(Annotate(CheckFileName(name), StrCat("base folder ", base_folder)));
    names.push_back(name);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), StrCat("cannot list the base folder ", base_folder));
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<ArtifactFile>> WriteWeights(const TensorSource& source, BlobStore& store,
                                                       const std::string& prefix,
                                                       const HfLayoutOptions& options,
                                                       RunContext& context) {
  const std::vector<TensorSpec>& specs = source.specs();
  int64_t total = 0;
  for (const TensorSpec& spec : specs) total += ByteSize(spec);
  const std::vector<Shard> shards = MakeShards(specs, options.max_shard_bytes);
  std::vector<ArtifactFile> files(shards.size());
  WriteProgress progress(total, context);
  {
    const int workers = std::min(options.threads, static_cast<int>(shards.size()));
    ThreadPool pool(workers > 1 ? workers : 0);
    for (size_t i = 0; i < shards.size(); ++i) {
      pool.Add([&, i] {
        if (!progress.Check().ok()) return;
        absl::StatusOr<ArtifactFile> file = WriteShard(source, shards[i], store, prefix, progress);
        if (file.ok()) {
          files[i] = *std::move(file);
        } else {
          progress.Fail(file.status());
        }
      });
    }
  }
  RETURN_IF_ERROR(progress.Check());
  if (shards.size() > 1) {
    ASSIGN_OR_RETURN(ArtifactFile index,
                     PutFile(std::string(kIndexName), IndexText(specs, shards), store, prefix));
    files.push_back(std::move(index));
  }
  return files;
}

absl::StatusOr<ArtifactFile> CopyFile(const std::string& path, const std::string& name,
                                      BlobStore& store, const std::string& prefix,
                                      RunContext& context) {
  RETURN_IF_ERROR(CheckFileName(name));
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> blob, store.Create(prefix + name));
  for (std::string_view rest = file->bytes(); !rest.empty();) {
    RETURN_IF_ERROR(context.CheckCancelled());
    const std::string_view piece = rest.substr(0, kPieceBytes);
    RETURN_IF_ERROR(blob->Append(piece));
    rest.remove_prefix(piece.size());
  }
  ASSIGN_OR_RETURN(const BlobReceipt receipt, blob->Commit());
  return ArtifactFile{name, receipt.size, receipt.digest};
}

absl::StatusOr<ArtifactFile> PutFile(const std::string& name, std::string_view bytes,
                                     BlobStore& store, const std::string& prefix) {
  RETURN_IF_ERROR(CheckFileName(name));
  ASSIGN_OR_RETURN(const BlobReceipt receipt, store.Put(prefix + name, bytes));
  return ArtifactFile{name, receipt.size, receipt.digest};
}

}  // namespace secateur
