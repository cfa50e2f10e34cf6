// Forward pass of a decoder whose attention is any backend, layer by layer: what does a language model lose
// when the attention of some layers becomes approximate, and what does it gain?
//
//   x ← embed(id);  for each layer:  x ← x + Wo·attention(turn(Wq·norm x), turn(Wk·norm x), Wv·norm x)
//                                    x ← x + Wdown·(act(Wgate·norm x) ∘ Wup·norm x)
//   logits = Whead·norm x
//
// is a Llama; ModelConfig says what other architectures do instead. With grouped queries, query head h reads
// key head ⌊h·(key heads)/(query heads)⌋.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "algorithms/backend.h"
#include "core/parameters.h"
#include "experiments/language_model/config/model_config.h"
#include "experiments/language_model/decoder_weights.h"

namespace hyperattn {

/// What computes the attention of one layer; the parameters are resolved against the backend's specs.
struct LayerAttention {
  const Backend* backend = nullptr;
  Parameters parameters;
};

/// Exact attention, as the model was trained.
[[nodiscard]] LayerAttention exact_layer();

/// Random choices of the backends. Layer l of trial t gets the stream of trial t·(layers) + l, so layers and
/// trials are independent.
struct DecoderSeed {
  uint64_t seed = 0;
  uint32_t trial = 0;
};

/// What one window cost and how well it was predicted.
struct WindowResult {
  std::vector<double> losses;             ///< −ln p of each predicted id, in order (nats)
  std::vector<double> attention_seconds;  ///< by layer: inside the backend only
  double total_seconds = 0;               ///< wall time of the whole forward pass, losses included
};

/// Receives the problem that a layer's attention solves: q of shape (1, query heads, n, head_dim), k and v of
/// (1, key heads, n, head_dim), after rotary positions. Valid during the call.
using LayerObserver = std::function<void(int64_t layer, const AttentionProblem& problem)>;

/// Receives the logits of consecutive entries of `positions`, from entry `first`: a row of vocab_size each.
/// Valid during the call.
using LogitReceiver = std::function<void(int64_t first, MatrixView<const float> logits)>;

class Decoder {
 public:
  /// Reads a model folder (config.json and safetensors). Error(input) for everything that is missing,
  /// misshapen, non-finite, not supported or no part of such a model; Error(environment) if the weights, in
  /// the type of their file, do not fit into memory.
  explicit Decoder(const std::string& folder);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  /// Number of weights; a tied head counts once.
  [[nodiscard]] int64_t parameter_count() const { return weights_.parameter_count; }

  /// Predicts ids[i + 1] from ids[0 … i] for i = 0 … n−1; `ids` holds n + 1 ids, all inside the vocabulary.
  /// One LayerAttention for each layer; the attention is causal. fp32 with the losses in double;
  /// deterministic for any number of threads if the backends are. Error(usage) for an n that the model cannot
  /// run. Cost 2·n FLOPs a weight and the attention; memory for a few n × (heads·head_dim) and n ×
  /// hidden_size matrices and one layer's weights in float32, never n × vocabulary.
  [[nodiscard]] WindowResult evaluate(const int32_t* ids, int64_t n,
                                      const std::vector<LayerAttention>& attention, const DecoderSeed& seed,
                                      const LayerObserver& observer = {}) const;

  /// The logits after ids[0 … p] for each p of `positions` (each below n), some rows at a time. Error(input)
  /// where they are not finite.
  void logits(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
              const DecoderSeed& seed, const std::vector<int64_t>& positions,
              const LogitReceiver& receiver) const;

  /// Shows the observer the attention problems of layers 0 … last_layer over n ids, and stops there: the
  /// attention of the last one is not computed.
  void observe(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
               const DecoderSeed& seed, int64_t last_layer, const LayerObserver& observer) const;

 private:
  ModelConfig config_;
  DecoderWeights weights_;
};

}  // namespace hyperattn
