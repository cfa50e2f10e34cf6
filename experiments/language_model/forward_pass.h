// The activations of one window on its way through a decoder, layer by layer.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "algorithms/problem.h"
#include "core/tensor.h"
#include "experiments/language_model/config/model_config.h"
#include "experiments/language_model/decoder_weights.h"

namespace hyperattn {

/// Two parallel loops over row tiles for each layer, with the attention between them. Refers to the model.
class ForwardPass {
 public:
  ForwardPass(const ModelConfig& config, const DecoderWeights& weights, const int32_t* ids, int64_t n);

  /// The attention problem of a layer: views that are valid until the next call.
  [[nodiscard]] AttentionProblem prepare_attention(int64_t layer);
  /// Adds the layer's attention output and its feed-forward part to the residual stream.
  void finish_layer(int64_t layer, TensorView<const float> attended);

  /// After the last layer: −ln p(targets[i]) for each row i, in double. The vocabulary passes in blocks.
  [[nodiscard]] std::vector<double> losses(const int32_t* targets);
  /// After the last layer: the logits of some rows, (rows, vocab_size).
  [[nodiscard]] DenseMatrix<float> logits(const int64_t* rows, int64_t count);

 private:
  // Rows of a tile.
  struct Tile {
    int64_t begin = 0;
    int64_t rows = 0;
  };
  // What one worker needs for a tile.
  struct Scratch {
    DenseMatrix<float> normed, wide, update, inner;
  };
  struct Rotation {
    Tensor<float> cosine, sine;  // (n, pairs)
  };
  // Logits [first, first + count) of a row.
  using LogitBlock = std::function<void(int64_t row, int64_t first, int64_t count, const float* logits)>;

  template <class Body>
  void for_each_tile(int64_t rows, const Body& body);
  void embed(const int32_t* ids);
  void fill_rotation(const RotaryConfig& rotary, Rotation& rotation);
  [[nodiscard]] MatrixView<float> hidden_rows(Tile tile);
  void project(int64_t layer, Tile tile, Scratch& scratch);
  void scatter_heads(int64_t layer, Tile tile, MatrixView<float> projected);
  void turn(int64_t layer, const float* from, int64_t position, float* to) const;
  void add_attention(const DecoderLayer& layer, TensorView<const float> attended, Tile tile,
                     Scratch& scratch);
  void add_feed_forward(const DecoderLayer& layer, Tile tile, Scratch& scratch);
  void add_update(const Norm* norm, Tile tile, Scratch& scratch);
  void apply_final_norm();
  void for_each_logit_block(MatrixView<const float> hidden, const LogitBlock& body);
  void finish_logits(MatrixView<float> logits) const;

  const ModelConfig& config_;
  const DecoderWeights& weights_;
  int64_t n_;
  bool finished_ = false;  // the hidden state has passed the final norm
  Tensor<float> hidden_;   // the residual stream
  Tensor<float> query_, key_, value_;
  std::vector<Rotation> rotations_;
  PackedLinear qkv_, output_, up_, down_, head_;
  std::vector<Scratch> scratch_;
};

}  // namespace hyperattn
