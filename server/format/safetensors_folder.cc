#include <filesystem>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/format/json_walker.h"
#include "server/format/safetensors_header.h"
#include "server/format/safetensors_reader.h"

namespace secateur {
namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kWeightMap = "weight_map";

std::string Join(const std::string& folder, std::string_view name) {
  return (std::filesystem::path(folder) / name).string();
}

// A name that stays in the folder when it is joined to it.
bool IsFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// Reads "weight_map" (tensor to shard) and passes over everything else.
class IndexWalker final : public JsonWalker {
 public:
  using WeightMap = std::map<std::string, std::string>;
  explicit IndexWalker(WeightMap& map) : JsonWalker(kMaxDepth), map_(map) {}

 private:
  static constexpr size_t kMaxDepth = 16;  // metadata may hold anything

  bool InMap() const { return depth() > 0 && KeyAt(0) == kWeightMap; }

  absl::Status OnOpen(bool is_object) override {
    const bool is_place_of_map = depth() == 2 && is_object;
    if (!InMap() || is_place_of_map) return absl::OkStatus();
    return absl::InvalidArgumentError("\"weight_map\" does not map strings to strings");
  }
  absl::Status OnClose() override { return absl::OkStatus(); }

  absl::Status OnScalar(JsonScalar value) override {
    if (!InMap()) return absl::OkStatus();
    auto* shard = std::get_if<std::string>(&value);
    if (depth() != 2 || shard == nullptr) {
      return absl::InvalidArgumentError(
          StrCat("\"weight_map\" does not map strings to strings: it holds ", Describe(value)));
    }
    if (!IsFileName(*shard)) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(KeyAt(1)), ": the shard ",
                                               Quoted(*shard),
                                               " is not a file name in this folder"));
    }
    map_[KeyAt(1)] = std::move(*shard);
    return absl::OkStatus();
  }

  WeightMap& map_;
};

absl::StatusOr<IndexWalker::WeightMap> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  const std::string_view text = file->bytes();
  if (text.size() > kSafetensorsHeaderLimit) {
    return absl::InvalidArgumentError(StrCat(path, " has ", text.size(), " bytes; at most ",
                                             kSafetensorsHeaderLimit, " are allowed"));
  }
  IndexWalker::WeightMap map;
  if (const absl::Status walked = IndexWalker(map).Walk(text); !walked.ok()) {
    return Annotate(walked, path);
  }
  if (map.empty()) {
    return absl::InvalidArgumentError(
        StrCat(path, ": \"weight_map\" is missing or names no tensor"));
  }
  return map;
}

absl::StatusOr<SafetensorsReader> OpenShard(const std::string& folder, const std::string& shard) {
  absl::StatusOr<SafetensorsReader> reader = SafetensorsReader::Open(Join(folder, shard));
  if (!absl::IsNotFound(reader.status())) return reader;
  // NOT_FOUND is for a folder that holds no model; this one holds a part of one.
  return absl::InvalidArgumentError(
      StrCat(Join(folder, kIndexFile), " names the shard ", Quoted(shard), ", which is missing"));
}

}  // namespace

absl::StatusOr<SafetensorsFolder> SafetensorsFolder::Open(const std::string& folder) {
  SafetensorsFolder out;
  out.folder_ = folder;
  absl::StatusOr<SafetensorsReader> single = SafetensorsReader::Open(Join(folder, kSingleFile));
  if (single.ok()) {
    out.tensors_ = single->tensors();
    out.files_.push_back(*std::move(single));
    return out;
  }
  if (!absl::IsNotFound(single.status())) return single.status();

  absl::StatusOr<IndexWalker::WeightMap> index = ReadIndex(Join(folder, kIndexFile));
  if (absl::IsNotFound(index.status())) {
    return absl::NotFoundError(StrCat(folder, " has neither ", kSingleFile, " nor ", kIndexFile));
  }
  RETURN_IF_ERROR(index.status());
  RETURN_IF_ERROR(out.AddShards(*index));
  return out;
}

absl::Status SafetensorsFolder::AddShards(const std::map<std::string, std::string>& index) {
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index) shards.insert(shard);
  for (const std::string& shard : shards) {
    ASSIGN_OR_RETURN(SafetensorsReader reader, OpenShard(folder_, shard));
    for (const auto& [tensor, view] : reader.tensors()) {
      const auto entry = index.find(tensor);
      if (entry == index.end() || entry->second != shard) {
        return absl::InvalidArgumentError(
            StrCat(reader.name(), " holds the tensor ", Quoted(tensor), ", which the index ",
                   entry == index.end() ? "does not name" : "places in " + Quoted(entry->second)));
      }
      tensors_[tensor] = view;
    }
    files_.push_back(std::move(reader));
  }
  for (const auto& [tensor, shard] : index) {
    if (!tensors_.contains(tensor)) {
      return absl::InvalidArgumentError(StrCat(Join(folder_, shard), " lacks the tensor ",
                                               Quoted(tensor), ", which the index places there"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> SafetensorsFolder::Find(const std::string& tensor) const {
  const auto found = tensors_.find(tensor);
  if (found != tensors_.end()) return found->second;
  return absl::NotFoundError(StrCat(folder_, " has no tensor ", Quoted(tensor)));
}

}  // namespace secateur
