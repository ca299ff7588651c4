#include "server/model/layers.h"

#include <algorithm>
#include <optional>

#include <ATen/ATen.h>

#include "server/model/cpu_attention.h"
#include "server/model/cpu_kernels.h"

namespace secateur {
namespace {

bool Fused(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

cpu::Norm ToKernel(const NormSpec& norm) {
  return {.weight = norm.weight.defined() ? norm.weight.const_data_ptr<float>() : nullptr,
          .offset = static_cast<float>(norm.offset),
          .eps = static_cast<float>(norm.eps)};
}

// In float32 whatever the type of x, as Transformers does.
at::Tensor Normalized(const at::Tensor& x, const NormSpec& norm) {
  if (!norm.weight.defined()) return x;
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = (wide.square().mean(-1, true) + norm.eps).rsqrt();
  return (wide * scale * (norm.weight.to(at::kFloat) + norm.offset)).to(x.scalar_type());
}

// [length, length], true where the row's position sees the column's.
at::Tensor WindowMask(int64_t length, int64_t window, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kBool).device(device);
  return at::ones({length, length}, options).tril().triu(1 - window);
}

// Rows begin..end of x as [1, heads, length, head_dim].
at::Tensor Heads(const at::Tensor& x, int64_t begin, int64_t end, int64_t head_dim) {
  return x.narrow(0, begin, end - begin).unflatten(1, {-1, head_dim}).transpose(0, 1).unsqueeze(0);
}

// One tensor over the rows of several that lie behind one another; undefined where they do not.
at::Tensor JoinRows(const std::vector<at::Tensor>& parts) {
  std::vector<int64_t> shape;
  const at::Tensor* before = nullptr;
  for (const at::Tensor& part : parts) {
    if (!part.defined() || !part.is_contiguous()) return {};
    if (before == nullptr) {
      shape = part.sizes().vec();
    } else {
      if (!part.is_alias_of(*before) || part.dim() != before->dim() ||
          part.storage_offset() != before->storage_offset() + before->numel() ||
          part.sizes().slice(1) != before->sizes().slice(1)) {
        return {};
      }
      shape.front() += part.size(0);
    }
    before = &part;
  }
  return parts.front().as_strided(shape, parts.front().strides());
}

cpu::HeadRows ToKernel(const at::Tensor& heads) {
  return {.data = heads.const_data_ptr<float>(), .stride = heads.stride(0)};
}

// The kernel copies the keys and values of a whole head; past this, libtorch's blocks are better.
bool FitsScratch(const cpu::AttentionShape& shape, const std::vector<int64_t>& offsets) {
  constexpr int64_t kMostBytes = int64_t{16} << 20;
  int64_t longest = 0;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    longest = std::max(longest, offsets[i + 1] - offsets[i]);
  }
  return cpu::AttentionScratchBytes(shape, longest) <= kMostBytes;
}

// Rows begin..end of `out` by libtorch's attention.
void AttendSequence(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    int64_t begin, int64_t end, const cpu::AttentionShape& shape, at::Tensor& out) {
  const int64_t length = end - begin;
  std::optional<at::Tensor> mask;
  if (shape.window > 0 && length > shape.window) {
    mask = WindowMask(length, shape.window, query.device());
  }
  const at::Tensor values = Heads(value, begin, end, shape.value_dim);
  at::Tensor target = out.narrow(0, begin, length).unflatten(1, {-1, shape.value_dim});
  // What of libtorch holds no map of all pairs of tokens wants values as wide as keys.
  for (int64_t column = 0; column < shape.value_dim; column += shape.head_dim) {
    const int64_t width = std::min(shape.head_dim, shape.value_dim - column);
    at::Tensor part = values.narrow(3, column, width);
    if (width < shape.head_dim) part = at::constant_pad_nd(part, {0, shape.head_dim - width});
    const at::Tensor attended = at::scaled_dot_product_attention(
        Heads(query, begin, end, shape.head_dim), Heads(key, begin, end, shape.head_dim), part,
        mask, /*dropout_p=*/0.0, /*is_causal=*/!mask.has_value(), shape.scale,
        /*enable_gqa=*/shape.kv_heads != shape.heads);
    target.narrow(2, column, width).copy_(attended.narrow(3, 0, width).squeeze(0).transpose(0, 1));
  }
}

}  // namespace

at::Tensor PostNormGain(const ModelConfig& config, const at::Tensor& norm) {
  return config.post_norms ? norm.to(at::kDouble) + config.norm_offset : at::Tensor();
}

void Normalize(const at::Tensor& x, const NormSpec& norm, at::Tensor& y) {
  if (!Fused(x)) {
    y.copy_(Normalized(x, norm));
    return;
  }
  cpu::NormRows(x.const_data_ptr<float>(), ToKernel(norm), x.size(0), x.size(1),
                y.mutable_data_ptr<float>());
}

void AddNormalized(const at::Tensor& x, const at::Tensor& delta, const NormSpec& post,
                   const NormSpec& pre, at::Tensor& sum, at::Tensor& y) {
  if (!Fused(x)) {
    at::add_out(sum, x, Normalized(delta, post));
    if (pre.weight.defined()) y.copy_(Normalized(sum, pre));
    return;
  }
  cpu::AddNormRows(x.const_data_ptr<float>(), delta.const_data_ptr<float>(), ToKernel(post),
                   ToKernel(pre), x.size(0), x.size(1), sum.mutable_data_ptr<float>(),
                   pre.weight.defined() ? y.mutable_data_ptr<float>() : nullptr);
}

void Project(const at::Tensor& x, const LinearWeights& linear, at::Tensor& out) {
  if (linear.bias.defined()) {
    at::addmm_out(out, linear.bias, x, linear.weight.t());
  } else {
    at::mm_out(out, x, linear.weight.t());
  }
}

void ProjectTogether(const at::Tensor& x, std::span<const LinearWeights* const> linears,
                     at::Tensor& out) {
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  for (const LinearWeights* linear : linears) {
    weights.push_back(linear->weight);
    biases.push_back(linear->bias);
  }
  const LinearWeights joined = {JoinRows(weights), JoinRows(biases)};
  if (joined.weight.defined() && joined.bias.defined() == biases.front().defined()) {
    Project(x, joined, out);
    return;
  }
  int64_t column = 0;
  for (const LinearWeights* linear : linears) {
    const int64_t width = linear->weight.size(0);
    at::Tensor columns = out.narrow(1, column, width);
    Project(x, *linear, columns);
    column += width;
  }
}

void Gate(at::Tensor& gate, const at::Tensor& up, const at::Tensor& kept, Activation activation) {
  if (!Fused(gate)) {
    if (activation == Activation::kSilu) {
      at::silu_(gate);
    } else {
      at::gelu_(gate, "tanh");
    }
    gate.mul_(up);
    if (kept.defined()) gate.mul_(kept);
    return;
  }
  cpu::GateRows(gate.mutable_data_ptr<float>(), up.const_data_ptr<float>(),
                kept.defined() ? kept.const_data_ptr<float>() : nullptr, activation, gate.size(0),
                gate.size(1));
}

void NormAndRotate(at::Tensor& x, int64_t head_dim, const NormSpec& norm,
                   const at::Tensor& positions, const RotaryTables& tables) {
  if (Fused(x)) {
    cpu::RotateRows(x.mutable_data_ptr<float>(), x.stride(0), x.size(1) / head_dim, head_dim,
                    ToKernel(norm),
                    {.positions = positions.const_data_ptr<int64_t>(),
                     .cos = tables.cos.const_data_ptr<float>(),
                     .sin = tables.sin.const_data_ptr<float>()},
                    x.size(0));
    return;
  }
  at::Tensor heads = x.unflatten(1, {-1, head_dim});
  const at::Tensor normed = Normalized(heads, norm);
  const at::Tensor cos = tables.cos.index_select(0, positions).unsqueeze(1).to(x.scalar_type());
  const at::Tensor sin = tables.sin.index_select(0, positions).unsqueeze(1).to(x.scalar_type());
  const at::Tensor first = normed.narrow(2, 0, head_dim / 2);
  const at::Tensor second = normed.narrow(2, head_dim / 2, head_dim / 2);
  heads.copy_(at::cat({first * cos - second * sin, second * cos + first * sin}, 2));
}

void Attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const std::vector<int64_t>& offsets, const ModelConfig& config, int64_t window,
            at::Tensor& out) {
  const cpu::AttentionShape shape = {.heads = config.num_heads,
                                     .kv_heads = config.num_kv_heads,
                                     .head_dim = config.head_dim,
                                     .window = window,
                                     .scale = static_cast<float>(config.attention_scale),
                                     .value_dim = value.size(1) / config.num_kv_heads};
  if (Fused(query) && FitsScratch(shape, offsets)) {
    cpu::CausalAttention(ToKernel(query), ToKernel(key), ToKernel(value), offsets, shape,
                         out.mutable_data_ptr<float>());
    return;
  }
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    AttendSequence(query, key, value, offsets[i], offsets[i + 1], shape, out);
  }
}

void AttendNext(const at::Tensor& query, const std::vector<at::Tensor>& keys,
                const std::vector<at::Tensor>& values, const ModelConfig& config, int64_t window,
                at::Tensor& out) {
  for (size_t i = 0; i < keys.size(); ++i) {
    const int64_t had = keys[i].size(0);
    const int64_t first = window > 0 ? std::max<int64_t>(had - window, 0) : 0;
    const auto row = static_cast<int64_t>(i);
    const at::Tensor attended = at::scaled_dot_product_attention(
        Heads(query, row, row + 1, config.head_dim), Heads(keys[i], first, had, config.head_dim),
        Heads(values[i], first, had, config.head_dim), std::nullopt, /*dropout_p=*/0.0,
        /*is_causal=*/false, config.attention_scale,
        /*enable_gqa=*/config.num_kv_heads != config.num_heads);
    out[row].copy_(attended.flatten());
  }
}

}  // namespace secateur
