#include "server/model/kv_cache.h"

#include <ATen/ATen.h>

namespace secateur {
namespace {

void AppendRows(const at::Tensor& rows, at::Tensor& all) {
  all = all.defined() ? at::cat({all, rows}) : rows.clone();
}

}  // namespace

const KvCache::Layer& KvCache::Append(int64_t layer, const PackedBatch& batch,
                                      const at::Tensor& key, const at::Tensor& value) {
  const auto index = static_cast<size_t>(layer);
  if (layers_.size() <= index) layers_.resize(index + 1);
  Layer& kept = layers_[index];
  kept.keys.resize(static_cast<size_t>(batch.sequences()));
  kept.values.resize(kept.keys.size());
  for (size_t i = 0; i < kept.keys.size(); ++i) {
    const int64_t begin = batch.offsets[i];
    const int64_t tokens = batch.offsets[i + 1] - begin;
    AppendRows(key.narrow(0, begin, tokens), kept.keys[i]);
    AppendRows(value.narrow(0, begin, tokens), kept.values[i]);
  }
  return kept;
}

void KvCache::Finish(const PackedBatch& batch) {
  lengths_.resize(static_cast<size_t>(batch.sequences()));
  for (size_t i = 0; i < lengths_.size(); ++i) {
    lengths_[i] += batch.offsets[i + 1] - batch.offsets[i];
  }
}

}  // namespace secateur
