#include "experiments/language_model/forward_pass.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/eigen.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Rows that one worker takes at a time: enough to repay the way through the weights, few enough that the
// widest intermediate stays in cache; a multiple of what the kernels take at once. A window of 1024 tokens of
// the shipped model took 83 ms, with tiles of 36 rows 81 ms and of 528 rows 88 ms (Zen 4, two threads).
constexpr int64_t kTileRows = 132;
// Outputs of the head that are computed for all rows before the next ones.
constexpr int64_t kVocabularyBlock = 1024;

MatrixView<float> first_rows(DenseMatrix<float>& matrix, int64_t rows) {
  return {matrix.values.data(), rows, matrix.cols, matrix.cols};
}

template <class T>
MatrixView<T> first_columns(MatrixView<T> view, int64_t cols) {
  return {view.data, view.rows, cols, view.stride};
}

void copy_rows(MatrixView<const float> from, MatrixView<float> to) {
  for (int64_t i = 0; i < from.rows; ++i) std::copy_n(from.row(i), from.cols, to.row(i));
}

// Σ exp(logit) of a row, block by block, relative to the largest so far; in double.
struct RunningLoss {
  double maximum = -std::numeric_limits<double>::infinity();
  double sum = 0;
  double target = 0;

  void add(const float* logits, int64_t count) {
    const auto largest = static_cast<double>(*std::max_element(logits, logits + count));
    if (largest > maximum) {
      sum *= std::exp(maximum - largest);
      maximum = largest;
    }
    for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - maximum);
  }
};

}  // namespace

template <class Body>
void ForwardPass::for_each_tile(int64_t rows, const Body& body) {
  parallel_for((rows + kTileRows - 1) / kTileRows, [&](int64_t index, int worker) {
    const int64_t begin = index * kTileRows;
    body(Tile{begin, std::min(kTileRows, rows - begin)}, scratch_[static_cast<size_t>(worker)]);
  });
}

ForwardPass::ForwardPass(const ModelConfig& config, const DecoderWeights& weights, const int32_t* ids,
                         int64_t n)
    : config_(config),
      weights_(weights),
      n_(n),
      hidden_(TensorShape{1, 1, n, config.hidden_size}),
      query_(TensorShape{1, config.num_attention_heads, n, config.head_dim}),
      key_(TensorShape{1, config.num_key_value_heads, n, config.head_dim}),
      value_(key_.shape()),
      rotations_(config.rotary.size()),
      scratch_(static_cast<size_t>(thread_count())) {
  const DecoderLayer& layer = weights.layers.front();
  for (Scratch& scratch : scratch_) {
    scratch.normed = DenseMatrix<float>(kTileRows, config.hidden_size);
    scratch.wide = DenseMatrix<float>(kTileRows, PackedLinear::padded(layer.qkv.outputs));
    scratch.update = DenseMatrix<float>(kTileRows, PackedLinear::padded(config.hidden_size));
    scratch.inner =
        DenseMatrix<float>(kTileRows, PackedLinear::padded(std::max(layer.up.outputs, kVocabularyBlock)));
  }
  embed(ids);
  for (size_t i = 0; i < rotations_.size(); ++i) fill_rotation(config.rotary[i], rotations_[i]);
}

void ForwardPass::embed(const int32_t* ids) {
  const int64_t width = config_.hidden_size;
  const auto scale = static_cast<float>(config_.embedding_scale);
  for_each_tile(n_, [&](Tile tile, Scratch&) {
    for (int64_t i = tile.begin; i < tile.begin + tile.rows; ++i) {
      float* row = hidden_.matrix(0).row(i);
      weights_.embedding.weight->widen(ids[i] * width, width, row);
      for (int64_t j = 0; j < width; ++j) row[j] *= scale;
      if (!weights_.positions.empty())
        for (int64_t j = 0; j < width; ++j) row[j] += weights_.positions[i * width + j];
    }
  });
}

// The angle is a product in float32, as models were trained with; its sine and cosine are exact to the last
// bit.
void ForwardPass::fill_rotation(const RotaryConfig& rotary, Rotation& rotation) {
  const std::vector<float> frequencies = rotary_frequencies(rotary, n_);
  rotation.cosine = Tensor<float>(TensorShape{1, 1, n_, rotary.pairs()});
  rotation.sine = Tensor<float>(rotation.cosine.shape());
  for_each_tile(n_, [&](Tile tile, Scratch&) {
    for (int64_t i = tile.begin; i < tile.begin + tile.rows; ++i)
      for (size_t j = 0; j < frequencies.size(); ++j) {
        const auto angle = static_cast<double>(static_cast<float>(i) * frequencies[j]);
        rotation.cosine.matrix(0).row(i)[j] = static_cast<float>(std::cos(angle) * rotary.attention_factor);
        rotation.sine.matrix(0).row(i)[j] = static_cast<float>(std::sin(angle) * rotary.attention_factor);
      }
  });
}

MatrixView<float> ForwardPass::hidden_rows(Tile tile) {
  return {hidden_.matrix(0).row(tile.begin), tile.rows, config_.hidden_size, config_.hidden_size};
}

AttentionProblem ForwardPass::prepare_attention(int64_t layer) {
  qkv_.pack(weights_.layers[static_cast<size_t>(layer)].qkv);
  for_each_tile(n_, [&](Tile tile, Scratch& scratch) { project(layer, tile, scratch); });
  const LayerConfig& settings = config_.layers[static_cast<size_t>(layer)];
  return {query_.view(), key_.view(),
          value_.view(), static_cast<float>(settings.scale),
          true,          window_within(settings, n_)};
}

void ForwardPass::project(int64_t l, Tile tile, Scratch& scratch) {
  const DecoderLayer& layer = weights_.layers[static_cast<size_t>(l)];
  MatrixView<const float> input = hidden_rows(tile);
  if (!config_.names.attention_norm.empty()) {
    layer.attention_norm.apply(input, first_rows(scratch.normed, tile.rows));
    input = first_rows(scratch.normed, tile.rows);
  }
  const MatrixView<float> projected = first_columns(first_rows(scratch.wide, tile.rows), qkv_.columns());
  qkv_.multiply(input, projected);
  if (config_.clip_qkv > 0) {
    const auto clip = static_cast<float>(config_.clip_qkv);
    auto all = as_eigen(projected).array();
    all = all.max(-clip).min(clip);
  }
  scatter_heads(l, tile, projected);
}

// Norms queries and keys, turns them and hands each head its rows.
void ForwardPass::scatter_heads(int64_t l, Tile tile, MatrixView<float> projected) {
  const DecoderLayer& layer = weights_.layers[static_cast<size_t>(l)];
  const int64_t dim = config_.head_dim;
  const int64_t heads = config_.num_attention_heads;
  const int64_t key_heads = config_.num_key_value_heads;
  const bool whole = config_.head_norm == HeadNorm::whole;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t position = tile.begin + i;
    float* queries = projected.row(i);
    float* keys = queries + heads * dim;
    const float* values = keys + key_heads * dim;
    if (config_.head_norm != HeadNorm::none) {
      layer.query_norm.apply(queries, whole ? 1 : heads, whole ? heads * dim : dim, queries);
      layer.key_norm.apply(keys, whole ? 1 : key_heads, whole ? key_heads * dim : dim, keys);
    }
    for (int64_t h = 0; h < heads; ++h) turn(l, queries + h * dim, position, query_.matrix(h).row(position));
    for (int64_t h = 0; h < key_heads; ++h) {
      turn(l, keys + h * dim, position, key_.matrix(h).row(position));
      std::copy_n(values + h * dim, dim, value_.matrix(h).row(position));
    }
  }
}

void ForwardPass::turn(int64_t layer, const float* from, int64_t position, float* to) const {
  const int which = config_.layers[static_cast<size_t>(layer)].rotary;
  if (which < 0) {
    std::copy_n(from, config_.head_dim, to);
    return;
  }
  const RotaryConfig& rotary = config_.rotary[static_cast<size_t>(which)];
  const Rotation& rotation = rotations_[static_cast<size_t>(which)];
  const int64_t pairs = rotary.pairs();
  const float* cosine = rotation.cosine.matrix(0).row(position);
  const float* sine = rotation.sine.matrix(0).row(position);
  const int64_t step = rotary.interleaved ? 2 : 1;
  const int64_t partner = rotary.interleaved ? 1 : pairs;
  for (int64_t j = 0; j < pairs; ++j) {
    const float first = from[j * step];
    const float second = from[j * step + partner];
    to[j * step] = first * cosine[j] - second * sine[j];
    to[j * step + partner] = second * cosine[j] + first * sine[j];
  }
  std::copy(from + 2 * pairs, from + config_.head_dim, to + 2 * pairs);
}

void ForwardPass::finish_layer(int64_t l, TensorView<const float> attended) {
  const DecoderLayer& layer = weights_.layers[static_cast<size_t>(l)];
  output_.pack(layer.output);
  up_.pack(layer.up);
  down_.pack(layer.down);
  // What the feed-forward part reads: the hidden state before or after attention was added to it.
  const auto read_input = [&](Tile tile, Scratch& scratch) {
    const MatrixView<float> normed = first_rows(scratch.normed, tile.rows);
    if (!config_.names.mlp_norm.empty())
      layer.mlp_norm.apply(hidden_rows(tile), normed);
    else if (config_.parallel_residual)
      layer.attention_norm.apply(hidden_rows(tile), normed);
    else
      copy_rows(hidden_rows(tile), normed);
  };
  for_each_tile(n_, [&](Tile tile, Scratch& scratch) {
    if (config_.parallel_residual) read_input(tile, scratch);
    add_attention(layer, attended, tile, scratch);
    if (!config_.parallel_residual) read_input(tile, scratch);
    add_feed_forward(layer, tile, scratch);
  });
}

void ForwardPass::add_attention(const DecoderLayer& layer, TensorView<const float> attended, Tile tile,
                                Scratch& scratch) {
  const int64_t dim = config_.head_dim;
  const MatrixView<float> joined =
      first_columns(first_rows(scratch.wide, tile.rows), config_.num_attention_heads * dim);
  for (int64_t h = 0; h < config_.num_attention_heads; ++h)
    for (int64_t i = 0; i < tile.rows; ++i)
      std::copy_n(attended.matrix(h).row(tile.begin + i), dim, joined.row(i) + h * dim);
  output_.multiply(joined, first_rows(scratch.update, tile.rows));
  const bool normed = !config_.names.attention_out_norm.empty();
  add_update(normed ? &layer.attention_out_norm : nullptr, tile, scratch);
}

void ForwardPass::add_feed_forward(const DecoderLayer& layer, Tile tile, Scratch& scratch) {
  const MatrixView<float> inner = first_columns(first_rows(scratch.inner, tile.rows), up_.columns());
  up_.multiply(first_rows(scratch.normed, tile.rows), inner);
  const MatrixView<float> active = first_columns(inner, config_.intermediate_size);
  activate(config_.activation, active);
  if (config_.gated) {
    const MatrixView<float> up = {inner.data + config_.intermediate_size, inner.rows,
                                  config_.intermediate_size, inner.stride};
    as_eigen(active).array() *= as_eigen(up).array();
  }
  down_.multiply(active, first_rows(scratch.update, tile.rows));
  const bool normed = !config_.names.mlp_out_norm.empty();
  add_update(normed ? &layer.mlp_out_norm : nullptr, tile, scratch);
}

void ForwardPass::add_update(const Norm* norm, Tile tile, Scratch& scratch) {
  const MatrixView<float> update = first_columns(first_rows(scratch.update, tile.rows), config_.hidden_size);
  if (norm != nullptr) norm->apply(update, update);
  as_eigen(hidden_rows(tile)) += as_eigen(update) * static_cast<float>(config_.residual_scale);
}

void ForwardPass::apply_final_norm() {
  if (finished_) return;
  for_each_tile(
      n_, [&](Tile tile, Scratch&) { weights_.final_norm.apply(hidden_rows(tile), hidden_rows(tile)); });
  finished_ = true;
}

void ForwardPass::for_each_logit_block(MatrixView<const float> hidden, const LogitBlock& body) {
  for (int64_t first = 0; first < config_.vocab_size; first += kVocabularyBlock) {
    const int64_t count = std::min(kVocabularyBlock, config_.vocab_size - first);
    head_.pack(weights_.head, first, first + count);
    for_each_tile(hidden.rows, [&](Tile tile, Scratch& scratch) {
      const MatrixView<const float> rows{hidden.row(tile.begin), tile.rows, hidden.cols, hidden.stride};
      const MatrixView<float> padded = first_columns(first_rows(scratch.inner, tile.rows), head_.columns());
      head_.multiply(rows, padded);
      const MatrixView<float> logits = first_columns(padded, count);
      finish_logits(logits);
      for (int64_t i = 0; i < tile.rows; ++i) body(tile.begin + i, first, count, logits.row(i));
    });
  }
}

void ForwardPass::finish_logits(MatrixView<float> logits) const {
  auto all = as_eigen(logits).array();
  if (config_.logit_scale != 1) all *= static_cast<float>(config_.logit_scale);
  if (config_.logit_cap > 0) {
    const auto cap = static_cast<float>(config_.logit_cap);
    all = (all / cap).tanh() * cap;
  }
}

std::vector<double> ForwardPass::losses(const int32_t* targets) {
  apply_final_norm();
  std::vector<RunningLoss> running(static_cast<size_t>(n_));
  for_each_logit_block(hidden_rows({0, n_}),
                       [&](int64_t row, int64_t first, int64_t count, const float* logits) {
                         RunningLoss& loss = running[static_cast<size_t>(row)];
                         loss.add(logits, count);
                         const int64_t place = targets[row] - first;
                         if (place >= 0 && place < count) loss.target = static_cast<double>(logits[place]);
                       });
  std::vector<double> losses;
  losses.reserve(running.size());
  for (const RunningLoss& loss : running) losses.push_back(loss.maximum + std::log(loss.sum) - loss.target);
  return losses;
}

DenseMatrix<float> ForwardPass::logits(const int64_t* rows, int64_t count) {
  apply_final_norm();
  DenseMatrix<float> hidden(count, config_.hidden_size);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(hidden_.matrix(0).row(rows[i]), config_.hidden_size, hidden.row(i));
  DenseMatrix<float> logits(count, config_.vocab_size);
  for_each_logit_block(hidden, [&](int64_t row, int64_t first, int64_t columns, const float* values) {
    std::copy_n(values, columns, logits.row(row) + first);
  });
  return logits;
}

}  // namespace hyperattn
