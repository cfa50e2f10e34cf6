// Forward pass of a Llama-style decoder whose attention is any backend, layer by layer: what does a language
// model lose when the attention of some layers becomes approximate, and what does it gain?
//
//   x ← embed(id);  for each layer:  x ← x + Wo·attention(rope(Wq·norm x), rope(Wk·norm x), Wv·norm x)
//                                    x ← x + Wdown·(silu(Wgate·norm x) ∘ Wup·norm x)
//   logits = Whead·norm x;   norm x = x / √(mean x² + ε) ∘ w
//
// Rotary positions turn pair (j, j + d/2) of a head by the angle position·θ^(−2j/d) (the Hugging Face
// half-split convention). With grouped queries, query head h reads key head ⌊h·(key heads)/(query heads)⌋.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "algorithms/backend.h"
#include "core/memory.h"
#include "core/parameters.h"
#include "experiments/language_model/model_config.h"

namespace hyperattn {

/// What computes the attention of one layer; the parameters are resolved against the backend's specs.
struct LayerAttention {
  const Backend* backend = nullptr;
  Parameters parameters;
};

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

/// Receives the problem that a layer's attention solves: q, k, v of shape (1, query heads, n, head_dim) after
/// rotary positions, keys and values repeated for each query head of their group. Valid during the call.
using LayerObserver = std::function<void(int64_t layer, const AttentionProblem& problem)>;

class Decoder {
 public:
  /// Reads a model folder (config.json and safetensors). Error(input) for everything that is missing,
  /// misshapen, non-finite, not supported or no part of such a model; Error(environment) if the weights, as
  /// float32, do not fit into memory.
  explicit Decoder(const std::string& folder);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  /// Number of weights; a tied head counts once.
  [[nodiscard]] int64_t parameter_count() const { return parameter_count_; }

  /// Predicts ids[i + 1] from ids[0 … i] for i = 0 … n−1; `ids` holds n + 1 ids, all inside the vocabulary.
  /// One LayerAttention for each layer; the attention is causal with scale 1/√head_dim. fp32 with the
  /// losses in double; deterministic for any number of threads if the backends are. Cost 2·n FLOPs a weight
  /// and the attention; memory for a few n × (heads·head_dim) and n × hidden_size matrices, never n ×
  /// vocabulary.
  [[nodiscard]] WindowResult evaluate(const int32_t* ids, int64_t n,
                                      const std::vector<LayerAttention>& attention, const DecoderSeed& seed,
                                      const LayerObserver& observer = {}) const;

  /// Shows the observer the attention problems of layers 0 … last_layer over n ids, and stops there: the
  /// attention of the last one is not computed.
  void observe(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
               const DecoderSeed& seed, int64_t last_layer, const LayerObserver& observer) const;

 private:
  friend class ForwardPass;

  /// y = W x + b; W is (outputs, inputs), row-major; b is empty if there is none.
  struct Linear {
    int64_t outputs = 0;
    int64_t inputs = 0;
    Buffer<float> weight;
    Buffer<float> bias;
  };
  struct Layer {
    Buffer<float> attention_norm;
    Linear query, key, value, output;
    Buffer<float> mlp_norm;
    Linear gate, up, down;
  };
  class Loader;

  ModelConfig config_;
  Buffer<float> embedding_;  ///< (vocab_size, hidden_size)
  std::vector<Layer> layers_;
  Buffer<float> final_norm_;
  Buffer<float> head_;  ///< (vocab_size, hidden_size); empty if tied to the embedding
  int64_t parameter_count_ = 0;
};

}  // namespace hyperattn
