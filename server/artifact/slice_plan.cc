#include "server/artifact/slice_plan.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/mask/group_mask.h"
#include "server/mask/kept_units.h"

namespace secateur {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
// Of bytes that pass without a copy: large, so that a writer's second thread is woken rarely.
constexpr size_t kPieceBytes = size_t{4} << 20;

std::string ShapeText(const std::vector<int64_t>& shape) {
  return StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// Ascending numbers within [0, limit). `what`: "channel", of "mask of layer 3".
absl::Status CheckAscending(const std::vector<int32_t>& kept, int64_t limit, std::string_view where,
                            std::string_view what) {
  int64_t previous = -1;
  for (const int32_t number : kept) {
    if (number <= previous || number >= limit) {
      return absl::InvalidArgumentError(StrCat(where, " has ", what, " ", number, " behind ",
                                               previous, "; ", what, "s must ascend within [0, ",
                                               limit, ")"));
    }
    previous = number;
  }
  return absl::OkStatus();
}

// `expected_count`: -1 for any.
absl::Status CheckLayer(const std::vector<int32_t>& kept, int64_t layer, int64_t width,
                        int64_t expected_count) {
  const auto count = static_cast<int64_t>(kept.size());
  if (count == 0) {
    return absl::InvalidArgumentError(
        StrCat("mask of layer ", layer, " keeps no neuron; every layer must keep at least one"));
  }
  if (expected_count >= 0 && count != expected_count) {
    return absl::InvalidArgumentError(StrCat("mask of layer ", layer, " keeps ", count,
                                             " neurons and layer 0 keeps ", expected_count,
                                             "; every layer must keep the same count"));
  }
  return CheckAscending(kept, width, StrCat("mask of layer ", layer), "channel");
}

absl::Status CheckVocabulary(const std::vector<int32_t>& rows, int64_t vocabulary_size,
                             Shape shape) {
  if (!rows.empty() && shape == Shape::kMasked) {
    return absl::InvalidArgumentError(
        "the mask leaves rows of the vocabulary out; a masked shape has all of them");
  }
  return CheckAscending(rows, vocabulary_size, "mask of the vocabulary", "row");
}

absl::Status CheckRows(const AttentionHeads& heads, const Mask& mask) {
  const int64_t query = heads.heads * heads.head_dim;
  const int64_t kv = heads.kv_heads * heads.head_dim;
  for (size_t layer = 0; layer < mask.attention.size(); ++layer) {
    const KeptAttention& kept = mask.attention[layer];
    const std::string where = StrCat("mask of the attention of layer ", layer);
    for (const auto& [rows, limit, what] :
         {std::tuple(&kept.query, query, "query row"), std::tuple(&kept.key, kv, "key row"),
          std::tuple(&kept.value, kv, "value row"),
          std::tuple(&kept.output, query, "output column")}) {
      if (rows->empty()) return absl::InvalidArgumentError(StrCat(where, " keeps no ", what));
      RETURN_IF_ERROR(CheckAscending(*rows, limit, where, what));
    }
  }
  return absl::OkStatus();
}

// What a config can say: the same number of whole groups in every layer.
absl::Status CheckUniformGroups(const AttentionHeads& heads, const Mask& mask) {
  ASSIGN_OR_RETURN(const auto groups, WholeGroups(heads, mask.attention));
  for (size_t layer = 1; layer < groups.size(); ++layer) {
    if (groups[layer].size() == groups[0].size()) continue;
    return absl::InvalidArgumentError(StrCat("mask of the attention of layer ", layer, " keeps ",
                                             groups[layer].size(),
                                             " KV head groups and layer 0 keeps ", groups[0].size(),
                                             "; every layer must keep the same count"));
  }
  return absl::OkStatus();
}

absl::Status CheckAttention(const ModelConfig& config, const Mask& mask, Shape shape) {
  if (mask.attention.empty()) return absl::OkStatus();
  if (static_cast<int64_t>(mask.attention.size()) != config.num_layers) {
    return absl::InvalidArgumentError(StrCat("mask has attention of ", mask.attention.size(),
                                             " layers; the base model has ", config.num_layers));
  }
  RETURN_IF_ERROR(CheckRows(HeadsOf(config), mask));
  return shape == Shape::kMasked ? absl::OkStatus() : CheckUniformGroups(HeadsOf(config), mask);
}

absl::Status CheckMask(const ModelConfig& config, const Mask& mask, Shape shape) {
  const auto layers = static_cast<int64_t>(mask.kept.size());
  if (layers != config.num_layers) {
    return absl::InvalidArgumentError(
        StrCat("mask has ", layers, " layers; the base model has ", config.num_layers));
  }
  const int64_t count =
      shape == Shape::kUniform ? static_cast<int64_t>(mask.kept[0].size()) : int64_t{-1};
  for (int64_t layer = 0; layer < layers; ++layer) {
    RETURN_IF_ERROR(
        CheckLayer(mask.kept[static_cast<size_t>(layer)], layer, config.intermediate_size, count));
  }
  RETURN_IF_ERROR(CheckAttention(config, mask, shape));
  return CheckVocabulary(mask.vocabulary, config.vocabulary_size, shape);
}

// Where `info` has such units; -1: nowhere.
int FindAxis(const TensorInfo& info, Axis axis) {
  const auto found = std::find(info.axes.begin(), info.axes.end(), axis);
  return found == info.axes.end() ? -1 : static_cast<int>(found - info.axes.begin());
}

// Along the axis of the layer's units, if it has one and loses any.
void CutUnits(const TensorInfo& info, const Cut& cut, TensorSlice& slice) {
  const KeptUnits units = FindKeptUnits(info, cut.mask);
  if (units.axis < 0) return;
  slice.axis = units.axis;
  slice.kept = units.kept;
  slice.zeros = cut.shape == Shape::kMasked;
  if (!slice.zeros) slice.spec.shape[static_cast<size_t>(units.axis)] = std::ssize(*units.kept);
}

// The rows of embedding and head that stay.
void CutVocabulary(const TensorInfo& info, const Cut& cut, TensorSlice& slice) {
  const int axis = FindAxis(info, Axis::kVocabulary);
  if (axis < 0 || cut.mask.vocabulary.empty()) return;
  slice.axis = axis;
  slice.kept = &cut.mask.vocabulary;
  slice.spec.shape[static_cast<size_t>(axis)] = static_cast<int64_t>(slice.kept->size());
}

// Of a tensor of the base, before anything is cut.
absl::StatusOr<TensorSpec> SpecOfBase(const TensorInfo& info, const SafetensorsFolder& base) {
  ASSIGN_OR_RETURN(const TensorView view, base.Find(info.name));
  if (view.shape == info.shape) return TensorSpec{info.name, view.dtype, view.shape};
  return absl::InvalidArgumentError(StrCat("tensor ", info.name, " of the base has shape ",
                                           ShapeText(view.shape), "; its config says ",
                                           ShapeText(info.shape)));
}

// Of a tensor that the base has not.
absl::StatusOr<TensorSpec> SpecOfAdded(const TensorInfo& info, const Cut& cut) {
  const TensorView* view = cut.replaced->Find(info.name);
  if (view != nullptr) return TensorSpec{info.name, view->dtype, info.shape};
  return absl::InvalidArgumentError(
      StrCat("tensor ", info.name, " is missing: other biases of the FFN come with the cut"));
}

absl::Status Replace(const Cut& cut, TensorSlice& slice) {
  if (cut.replaced == nullptr) return absl::OkStatus();
  slice.replaced = cut.replaced->Find(slice.spec.name);
  if (slice.replaced == nullptr) return absl::OkStatus();
  if (slice.replaced->dtype == slice.spec.dtype && slice.replaced->shape == slice.spec.shape) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat("tensor ", slice.spec.name, " is replaced by one of type ",
             DTypeName(slice.replaced->dtype), " and shape ", ShapeText(slice.replaced->shape),
             "; it should be ", DTypeName(slice.spec.dtype), " ", ShapeText(slice.spec.shape)));
}

absl::Status SendUncopied(std::string_view bytes, const ByteSink& sink) {
  while (!bytes.empty()) {
    RETURN_IF_ERROR(sink(bytes.substr(0, kPieceBytes)));
    bytes.remove_prefix(std::min(bytes.size(), kPieceBytes));
  }
  return absl::OkStatus();
}

// Collects small pieces, so that the sink sees few large ones.
class BufferedSink {
 public:
  explicit BufferedSink(const ByteSink& sink) : sink_(sink) {}

  absl::Status Append(std::string_view bytes) {
    if (used_ + bytes.size() > kBufferBytes) RETURN_IF_ERROR(Flush());
    if (bytes.size() > kBufferBytes) return SendUncopied(bytes, sink_);
    std::memcpy(Space(), bytes.data(), bytes.size());
    Claim(bytes.size());
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (used_ == 0) return absl::OkStatus();
    const size_t size = used_;
    used_ = 0;
    return sink_(std::string_view(buffer_.get(), size));
  }

  // Where the next bytes go; `Free()` bytes fit, `Claim()` says how many came.
  char* Space() { return buffer_.get() + used_; }
  size_t Free() const { return kBufferBytes - used_; }
  void Claim(size_t bytes) { used_ += bytes; }

 private:
  const ByteSink& sink_;
  const std::unique_ptr<char[]> buffer_ = std::make_unique_for_overwrite<char[]>(kBufferBytes);
  size_t used_ = 0;
};

// A tensor seen as [outer, channels, inner bytes], cut along the middle.
struct CutShape {
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner_bytes = 1;
};

CutShape CutShapeOf(const TensorView& base, int axis) {
  CutShape cut;
  cut.inner_bytes = ItemSize(base.dtype);
  for (int i = 0; i < static_cast<int>(base.shape.size()); ++i) {
    const int64_t extent = base.shape[static_cast<size_t>(i)];
    (i < axis ? cut.outer : i == axis ? cut.channels : cut.inner_bytes) *= extent;
  }
  return cut;
}

// Channels that lie next to one another are one contiguous copy.
absl::Status CopyRows(std::string_view block, size_t row_bytes, const std::vector<int32_t>& kept,
                      BufferedSink& sink) {
  for (size_t i = 0; i < kept.size();) {
    size_t end = i + 1;
    while (end < kept.size() && kept[end] == kept[end - 1] + 1) ++end;
    RETURN_IF_ERROR(
        sink.Append(block.substr(static_cast<size_t>(kept[i]) * row_bytes, (end - i) * row_bytes)));
    i = end;
  }
  return absl::OkStatus();
}

// memcpy of a constant size is one load and one store, whatever the alignment of the file is.
template <size_t kItemBytes>
void Gather(const char* row, const int32_t* kept, size_t count, char* out) {
  for (size_t i = 0; i < count; ++i) {
    std::memcpy(out + i * kItemBytes, row + static_cast<size_t>(kept[i]) * kItemBytes, kItemBytes);
  }
}

template <size_t kItemBytes>
absl::Status GatherColumns(std::string_view bytes, const CutShape& cut,
                           const std::vector<int32_t>& kept, BufferedSink& sink) {
  const size_t row_bytes = static_cast<size_t>(cut.channels) * kItemBytes;
  for (int64_t row = 0; row < cut.outer; ++row) {
    const char* from = bytes.data() + static_cast<size_t>(row) * row_bytes;
    for (size_t i = 0; i < kept.size();) {
      if (sink.Free() < kItemBytes) RETURN_IF_ERROR(sink.Flush());
      const size_t count = std::min(kept.size() - i, sink.Free() / kItemBytes);
      Gather<kItemBytes>(from, kept.data() + i, count, sink.Space());
      sink.Claim(count * kItemBytes);
      i += count;
    }
  }
  return absl::OkStatus();
}

// Rows that are not kept become zeros; every element type's zero is all bits 0.
absl::Status CopyRowsZeroed(const CutShape& cut, std::string_view bytes,
                            const std::vector<int32_t>& kept, BufferedSink& sink) {
  const auto inner = static_cast<size_t>(cut.inner_bytes);
  const std::string zeros(inner, '\0');
  auto next = kept.begin();
  for (int64_t channel = 0; channel < cut.channels; ++channel) {
    const bool stays = next != kept.end() && *next == channel;
    if (stays) ++next;
    RETURN_IF_ERROR(
        sink.Append(stays ? bytes.substr(static_cast<size_t>(channel) * inner, inner) : zeros));
  }
  return absl::OkStatus();
}

// The same for columns.
absl::Status CopyColumnsZeroed(const CutShape& cut, std::string_view bytes,
                               const std::vector<int32_t>& kept, BufferedSink& sink) {
  const auto inner = static_cast<size_t>(cut.inner_bytes);
  std::string row(static_cast<size_t>(cut.channels) * inner, '\0');
  for (size_t outer = 0; outer < static_cast<size_t>(cut.outer); ++outer) {
    const char* from = bytes.data() + outer * row.size();
    for (const int32_t channel : kept) {
      const size_t at = static_cast<size_t>(channel) * inner;
      std::memcpy(row.data() + at, from + at, inner);
    }
    RETURN_IF_ERROR(sink.Append(row));
  }
  return absl::OkStatus();
}

absl::Status CopyZeroed(const CutShape& cut, std::string_view bytes,
                        const std::vector<int32_t>& kept, BufferedSink& sink) {
  return cut.outer == 1 ? CopyRowsZeroed(cut, bytes, kept, sink)
                        : CopyColumnsZeroed(cut, bytes, kept, sink);
}

absl::Status CopyCut(const CutShape& cut, std::string_view bytes, const std::vector<int32_t>& kept,
                     BufferedSink& sink) {
  switch (cut.outer > 1 ? cut.inner_bytes : 0) {
    case 1:
      return GatherColumns<1>(bytes, cut, kept, sink);
    case 2:
      return GatherColumns<2>(bytes, cut, kept, sink);
    case 4:
      return GatherColumns<4>(bytes, cut, kept, sink);
    case 8:
      return GatherColumns<8>(bytes, cut, kept, sink);
    default:
      break;
  }
  const auto inner = static_cast<size_t>(cut.inner_bytes);
  const size_t block = static_cast<size_t>(cut.channels) * inner;
  for (size_t i = 0; i < static_cast<size_t>(cut.outer); ++i) {
    RETURN_IF_ERROR(CopyRows(bytes.substr(i * block, block), inner, kept, sink));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TensorSlice>> MakeSlicePlan(const ModelConfig& config,
                                                       const SafetensorsFolder& base,
                                                       const Cut& cut) {
  RETURN_IF_ERROR(CheckMask(config, cut.mask, cut.shape));
  std::vector<TensorSlice> plan;
  const ModelConfig with_added = WithAddedTensors(config, cut);
  for (TensorInfo& info : TensorTable(with_added)) {
    const bool added = with_added.mlp_bias != config.mlp_bias && IsFfnBias(info.role);
    TensorSlice slice;
    ASSIGN_OR_RETURN(slice.spec, added ? SpecOfAdded(info, cut) : SpecOfBase(info, base));
    CutUnits(info, cut, slice);
    CutVocabulary(info, cut, slice);
    RETURN_IF_ERROR(Replace(cut, slice));
    slice.info = std::move(info);
    plan.push_back(std::move(slice));
  }
  return plan;
}

absl::Status StreamSlice(const TensorSlice& slice, const TensorView& base, const ByteSink& sink) {
  if (slice.replaced != nullptr) return SendUncopied(slice.replaced->bytes, sink);
  if (slice.axis < 0) return SendUncopied(base.bytes, sink);
  BufferedSink buffered(sink);
  const CutShape shape = CutShapeOf(base, slice.axis);
  RETURN_IF_ERROR(slice.zeros ? CopyZeroed(shape, base.bytes, *slice.kept, buffered)
                              : CopyCut(shape, base.bytes, *slice.kept, buffered));
  return buffered.Flush();
}

}  // namespace secateur
