#include "experiments/language_model/decoder.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cassert>
#include <cmath>
#include <set>

#include "core/eigen.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/tensor.h"
#include "core/timing.h"
#include "experiments/language_model/safetensors.h"

namespace hyperattn {
namespace {

// Rows that one worker takes at a time: enough to repay the packing of the weights, few enough that the
// widest intermediate stays in cache.
constexpr int64_t kTileRows = 128;

struct Tile {
  int64_t begin = 0;
  int64_t rows = 0;
};

template <class Body>
void for_each_tile(int64_t n, const Body& body) {
  parallel_for((n + kTileRows - 1) / kTileRows, [&](int64_t index, int worker) {
    const int64_t begin = index * kTileRows;
    body(Tile{begin, std::min(kTileRows, n - begin)}, worker);
  });
}

MatrixView<float> view_of(RowMajorMatrix<float>& matrix, int64_t rows) {
  return {matrix.data(), rows, matrix.cols(), matrix.cols()};
}

// y = x Wᵀ (+ b), one row of x for each position.
void multiply(MatrixView<const float> x, const Buffer<float>& weight, const Buffer<float>& bias,
              MatrixView<float> y) {
  const MatrixView<const float> w{weight.data(), y.cols, x.cols, x.cols};
  auto result = as_eigen(y);
  result.noalias() = as_eigen(x) * as_eigen(w).transpose();
  if (!bias.empty()) result.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias.data(), bias.size());
}

void rms_norm(MatrixView<const float> x, const Buffer<float>& weight, double epsilon, MatrixView<float> y) {
  const Eigen::Map<const Eigen::RowVectorXf> w(weight.data(), weight.size());
  for (int64_t i = 0; i < x.rows; ++i) {
    const Eigen::Map<const Eigen::RowVectorXf> row(x.row(i), x.cols);
    const double mean_square = static_cast<double>(row.squaredNorm()) / static_cast<double>(x.cols);
    const auto factor = static_cast<float>(1.0 / std::sqrt(mean_square + epsilon));
    Eigen::Map<Eigen::RowVectorXf>(y.row(i), y.cols) = row.cwiseProduct(w) * factor;
  }
}

// gate ← silu(gate) ∘ up
void gated(MatrixView<float> gate, MatrixView<const float> up) {
  auto g = as_eigen(gate).array();
  g = g / (1.0F + (-g).exp()) * as_eigen(up).array();
}

// −ln softmax(logits)[target], in double.
double cross_entropy(const float* logits, int64_t count, int32_t target) {
  const double maximum = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - maximum);
  return maximum + std::log(sum) - static_cast<double>(logits[target]);
}

}  // namespace

/// Reads the tensors of a model by their Hugging Face names.
class Decoder::Loader {
 public:
  Loader(const std::string& folder, const ModelConfig& config)
      : archive_(TensorArchive::open(folder)), config_(config) {}

  Buffer<float> vector(const std::string& name, int64_t size) { return read(name, {size}); }
  Buffer<float> matrix(const std::string& name, int64_t rows, int64_t cols) {
    return read(name, {rows, cols});
  }

  Linear linear(const std::string& name, int64_t outputs, int64_t inputs, bool has_bias) {
    Linear linear{outputs, inputs, read(name + ".weight", {outputs, inputs}), {}};
    if (has_bias) linear.bias = read(name + ".bias", {outputs});
    return linear;
  }

  Layer layer(int64_t index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    const int64_t width = config_.hidden_size;
    const int64_t query_width = config_.num_attention_heads * config_.head_dim;
    const int64_t key_width = config_.num_key_value_heads * config_.head_dim;
    const bool bias = config_.attention_bias;
    Layer layer;
    layer.attention_norm = vector(prefix + "input_layernorm.weight", width);
    layer.query = linear(prefix + "self_attn.q_proj", query_width, width, bias);
    layer.key = linear(prefix + "self_attn.k_proj", key_width, width, bias);
    layer.value = linear(prefix + "self_attn.v_proj", key_width, width, bias);
    layer.output = linear(prefix + "self_attn.o_proj", width, query_width, bias);
    layer.mlp_norm = vector(prefix + "post_attention_layernorm.weight", width);
    layer.gate = linear(prefix + "mlp.gate_proj", config_.intermediate_size, width, config_.mlp_bias);
    layer.up = linear(prefix + "mlp.up_proj", config_.intermediate_size, width, config_.mlp_bias);
    layer.down = linear(prefix + "mlp.down_proj", width, config_.intermediate_size, config_.mlp_bias);
    return layer;
  }

  /// A tensor that no formula here uses (a bias that the configuration does not mention, a norm of the
  /// queries, a further layer) means that the file's model computes something else.
  void require_all_used() const {
    for (const std::string& name : archive_.names())
      if (used_.count(name) == 0 && !is_redundant(name))
        fail_input(archive_.find(name)->file + ": tensor '" + name +
                   "' is no part of a Llama model with this config.json (" +
                   std::to_string(config_.num_hidden_layers) + " layers, attention_bias " +
                   (config_.attention_bias ? "true" : "false") + ", mlp_bias " +
                   (config_.mlp_bias ? "true" : "false") + ")");
  }

  [[nodiscard]] int64_t parameters_read() const { return parameters_; }

 private:
  Buffer<float> read(const std::string& name, const std::vector<int64_t>& shape) {
    Buffer<float> values = archive_.read(name, shape);
    parameters_ += values.size();
    used_.insert(name);
    return values;
  }

  // The rotary frequencies, which older files hold, follow from theta; a tied head is the embedding.
  [[nodiscard]] bool is_redundant(const std::string& name) const {
    return name.ends_with(".rotary_emb.inv_freq") ||
           (config_.tie_word_embeddings && name == "lm_head.weight");
  }

  TensorArchive archive_;
  const ModelConfig& config_;
  std::set<std::string> used_;
  int64_t parameters_ = 0;
};

Decoder::Decoder(const std::string& folder) : config_(read_model_config(folder)) {
  Loader loader(folder, config_);
  embedding_ = loader.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) layers_.push_back(loader.layer(l));
  final_norm_ = loader.vector("model.norm.weight", config_.hidden_size);
  if (!config_.tie_word_embeddings)
    head_ = loader.matrix("lm_head.weight", config_.vocab_size, config_.hidden_size);
  loader.require_all_used();
  parameter_count_ = loader.parameters_read();
}

/// The activations of one window. Two parallel loops over row tiles for each layer, with the attention
/// between them.
class ForwardPass {
 public:
  ForwardPass(const Decoder& decoder, const int32_t* ids, int64_t n)
      : decoder_(decoder),
        config_(decoder.config_),
        n_(n),
        hidden_(TensorShape{1, 1, n, config_.hidden_size}),
        query_(TensorShape{1, config_.num_attention_heads, n, config_.head_dim}),
        key_(query_.shape()),
        value_(query_.shape()),
        cosine_(TensorShape{1, 1, n, config_.head_dim / 2}),
        sine_(cosine_.shape()),
        scratch_(static_cast<size_t>(thread_count())) {
    for (int64_t i = 0; i < n; ++i)
      std::copy_n(decoder_.embedding_.data() + ids[i] * config_.hidden_size, config_.hidden_size,
                  hidden_.matrix(0).row(i));
    fill_rotation();
    for (Scratch& scratch : scratch_) scratch.allocate(config_);
  }

  /// The attention problem of a layer.
  AttentionProblem prepare_attention(int64_t l) {
    for_each_tile(n_, [&](Tile tile, int worker) {
      project(decoder_.layers_[static_cast<size_t>(l)], tile, scratch_[static_cast<size_t>(worker)]);
    });
    return {query_.view(), key_.view(), value_.view(), default_scale(config_.head_dim), true};
  }

  /// Adds the layer's attention output and its feed-forward part to the residual stream.
  void finish_layer(int64_t l, TensorView<const float> attended) {
    for_each_tile(n_, [&](Tile tile, int worker) {
      Scratch& scratch = scratch_[static_cast<size_t>(worker)];
      const Decoder::Layer& layer = decoder_.layers_[static_cast<size_t>(l)];
      add_attention(layer, attended, tile, scratch);
      add_feed_forward(layer, tile, scratch);
    });
  }

  /// −ln p(targets[i]) for each row i.
  std::vector<double> losses(const int32_t* targets) {
    std::vector<double> losses(static_cast<size_t>(n_));
    std::vector<RowMajorMatrix<float>> logits(scratch_.size());
    const Buffer<float>& head = decoder_.head_.empty() ? decoder_.embedding_ : decoder_.head_;
    for_each_tile(n_, [&](Tile tile, int worker) {
      Scratch& scratch = scratch_[static_cast<size_t>(worker)];
      RowMajorMatrix<float>& tile_logits = logits[static_cast<size_t>(worker)];
      tile_logits.resize(kTileRows, config_.vocab_size);
      const MatrixView<float> normed = view_of(scratch.normed, tile.rows);
      rms_norm(hidden_rows(tile), decoder_.final_norm_, config_.rms_norm_eps, normed);
      multiply(normed, head, {}, view_of(tile_logits, tile.rows));
      for (int64_t i = 0; i < tile.rows; ++i)
        losses[static_cast<size_t>(tile.begin + i)] =
            cross_entropy(tile_logits.row(i).data(), config_.vocab_size, targets[tile.begin + i]);
    });
    return losses;
  }

 private:
  // What one worker needs for a tile.
  struct Scratch {
    RowMajorMatrix<float> normed, queries, keys, values, update, gate, up;

    void allocate(const ModelConfig& config) {
      normed.resize(kTileRows, config.hidden_size);
      queries.resize(kTileRows, config.num_attention_heads * config.head_dim);
      keys.resize(kTileRows, config.num_key_value_heads * config.head_dim);
      values.resize(kTileRows, keys.cols());
      update.resize(kTileRows, config.hidden_size);
      gate.resize(kTileRows, config.intermediate_size);
      up.resize(kTileRows, config.intermediate_size);
    }
  };

  MatrixView<float> hidden_rows(Tile tile) {
    return {hidden_.matrix(0).row(tile.begin), tile.rows, config_.hidden_size, config_.hidden_size};
  }

  // Angles in double: position 32767 times a frequency rounded to float would be off by a milliradian.
  void fill_rotation() {
    const int64_t half = config_.head_dim / 2;
    std::vector<double> frequency;
    for (int64_t j = 0; j < half; ++j)
      frequency.push_back(std::pow(config_.rope_theta,
                                   -2.0 * static_cast<double>(j) / static_cast<double>(config_.head_dim)));
    for_each_tile(n_, [&](Tile tile, int) {
      for (int64_t i = tile.begin; i < tile.begin + tile.rows; ++i)
        for (int64_t j = 0; j < half; ++j) {
          const double angle = static_cast<double>(i) * frequency[static_cast<size_t>(j)];
          cosine_.matrix(0).row(i)[j] = static_cast<float>(std::cos(angle));
          sine_.matrix(0).row(i)[j] = static_cast<float>(std::sin(angle));
        }
    });
  }

  void project(const Decoder::Layer& layer, Tile tile, Scratch& scratch) {
    const MatrixView<float> normed = view_of(scratch.normed, tile.rows);
    rms_norm(hidden_rows(tile), layer.attention_norm, config_.rms_norm_eps, normed);
    multiply(normed, layer.query.weight, layer.query.bias, view_of(scratch.queries, tile.rows));
    multiply(normed, layer.key.weight, layer.key.bias, view_of(scratch.keys, tile.rows));
    multiply(normed, layer.value.weight, layer.value.bias, view_of(scratch.values, tile.rows));
    const int64_t group = config_.num_attention_heads / config_.num_key_value_heads;
    for (int64_t h = 0; h < config_.num_attention_heads; ++h)
      for (int64_t i = 0; i < tile.rows; ++i) {
        const int64_t position = tile.begin + i;
        const int64_t key_column = h / group * config_.head_dim;
        rotate(&scratch.queries(i, h * config_.head_dim), position, query_.matrix(h).row(position));
        rotate(&scratch.keys(i, key_column), position, key_.matrix(h).row(position));
        std::copy_n(&scratch.values(i, key_column), config_.head_dim, value_.matrix(h).row(position));
      }
  }

  void rotate(const float* from, int64_t position, float* to) const {
    const int64_t half = config_.head_dim / 2;
    const float* cosine = cosine_.matrix(0).row(position);
    const float* sine = sine_.matrix(0).row(position);
    for (int64_t j = 0; j < half; ++j) {
      to[j] = from[j] * cosine[j] - from[j + half] * sine[j];
      to[j + half] = from[j + half] * cosine[j] + from[j] * sine[j];
    }
  }

  void add_attention(const Decoder::Layer& layer, TensorView<const float> attended, Tile tile,
                     Scratch& scratch) {
    const MatrixView<float> joined = view_of(scratch.queries, tile.rows);
    for (int64_t h = 0; h < config_.num_attention_heads; ++h)
      for (int64_t i = 0; i < tile.rows; ++i)
        std::copy_n(attended.matrix(h).row(tile.begin + i), config_.head_dim,
                    joined.row(i) + h * config_.head_dim);
    const MatrixView<float> update = view_of(scratch.update, tile.rows);
    multiply(joined, layer.output.weight, layer.output.bias, update);
    as_eigen(hidden_rows(tile)) += as_eigen(update);
  }

  void add_feed_forward(const Decoder::Layer& layer, Tile tile, Scratch& scratch) {
    const MatrixView<float> normed = view_of(scratch.normed, tile.rows);
    const MatrixView<float> gate = view_of(scratch.gate, tile.rows);
    const MatrixView<float> up = view_of(scratch.up, tile.rows);
    const MatrixView<float> update = view_of(scratch.update, tile.rows);
    rms_norm(hidden_rows(tile), layer.mlp_norm, config_.rms_norm_eps, normed);
    multiply(normed, layer.gate.weight, layer.gate.bias, gate);
    multiply(normed, layer.up.weight, layer.up.bias, up);
    gated(gate, up);
    multiply(gate, layer.down.weight, layer.down.bias, update);
    as_eigen(hidden_rows(tile)) += as_eigen(update);
  }

  const Decoder& decoder_;
  const ModelConfig& config_;
  int64_t n_;
  Tensor<float> hidden_;  // the residual stream
  Tensor<float> query_, key_, value_;
  Tensor<float> cosine_, sine_;
  std::vector<Scratch> scratch_;
};

namespace {

void check_call(const ModelConfig& config, const int32_t* ids, int64_t id_count, int64_t n,
                const std::vector<LayerAttention>& attention) {
  if (n < 1 || n > config.max_position_embeddings)
    fail_usage("a window must hold between 1 and " + std::to_string(config.max_position_embeddings) +
               " tokens (the model's max_position_embeddings), but holds " + std::to_string(n));
  for (int64_t i = 0; i < id_count; ++i)
    if (ids[i] < 0 || ids[i] >= config.vocab_size)
      fail_input("token " + std::to_string(i) + " of the window is " + std::to_string(ids[i]) +
                 ", but ids must be between 0 and " + std::to_string(config.vocab_size - 1) +
                 " (the model's vocab_size is " + std::to_string(config.vocab_size) + ")");
  assert(static_cast<int64_t>(attention.size()) == config.num_hidden_layers);
  (void)attention;
}

CallContext context_of(const LayerAttention& attention, const DecoderSeed& seed, int64_t layer,
                       int64_t layers) {
  CallContext context;
  context.parameters = attention.parameters;
  context.seed = seed.seed;
  context.trial = seed.trial * static_cast<uint32_t>(layers) + static_cast<uint32_t>(layer);
  return context;
}

void check_losses(const std::vector<double>& losses) {
  for (size_t i = 0; i < losses.size(); ++i)
    if (!std::isfinite(losses[i]))
      fail_input("the model's prediction of token " + std::to_string(i + 1) +
                 " of the window is not finite: its activations overflow float32");
}

}  // namespace

WindowResult Decoder::evaluate(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
                               const DecoderSeed& seed, const LayerObserver& observer) const {
  check_call(config_, ids, n + 1, n, attention);
  const Stopwatch total;
  WindowResult result;
  ForwardPass pass(*this, ids, n);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const LayerAttention& chosen = attention[static_cast<size_t>(l)];
    const AttentionProblem problem = pass.prepare_attention(l);
    if (observer) observer(l, problem);
    const Stopwatch watch;
    const ForwardState state =
        chosen.backend->forward(problem, context_of(chosen, seed, l, config_.num_hidden_layers));
    result.attention_seconds.push_back(watch.seconds());
    pass.finish_layer(l, state.result.out.view());
  }
  result.losses = pass.losses(ids + 1);
  result.total_seconds = total.seconds();
  check_losses(result.losses);
  return result;
}

void Decoder::observe(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
                      const DecoderSeed& seed, int64_t last_layer, const LayerObserver& observer) const {
  check_call(config_, ids, n, n, attention);
  ForwardPass pass(*this, ids, n);
  for (int64_t l = 0; l <= last_layer; ++l) {
    const AttentionProblem problem = pass.prepare_attention(l);
    observer(l, problem);
    if (l == last_layer) return;
    const LayerAttention& chosen = attention[static_cast<size_t>(l)];
    const ForwardState state =
        chosen.backend->forward(problem, context_of(chosen, seed, l, config_.num_hidden_layers));
    pass.finish_layer(l, state.result.out.view());
  }
}

}  // namespace hyperattn
