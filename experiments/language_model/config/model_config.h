// What a decoder computes, as read from `config.json` in the Hugging Face layout: sizes, and which of the
// shared pieces (norms, linear layers, rotary positions, feed-forward) it puts together, and how.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/language_model/config/rotary.h"

namespace hyperattn {

enum class Activation { silu, gelu, gelu_tanh, gelu_quick, relu, relu_squared };

enum class NormKind {
  rms,    ///< x / √(mean x² + ε) ∘ (w + offset)
  layer,  ///< (x − mean x) / √(var x + ε) ∘ (w + offset) + b
};

struct NormConfig {
  NormKind kind = NormKind::rms;
  double epsilon = 1e-6;
  bool weight = true;
  bool bias = false;
  double weight_offset = 0;
};

/// What the norms of queries and keys stretch over.
enum class HeadNorm {
  none,
  shared,     ///< each head by itself, one weight vector of head_dim for all
  own,        ///< each head by itself, a weight vector for each, stored as (heads, head_dim)
  own_apart,  ///< the same, stored as a tensor for each head, its number at the name's end
  whole       ///< all heads at once
};

/// One layer's attention.
struct LayerConfig {
  double scale = 0;    ///< multiplies every score
  int rotary = 0;      ///< place in ModelConfig::rotary; −1: this layer has no positions
  int64_t window = 0;  ///< latest keys that a query sees, its own included; 0: all
};

/// How the rows of a fused query, key and value matrix are ordered.
enum class FusedOrder {
  separate,  ///< three matrices
  in_turn,   ///< all queries, all keys, all values
  by_head    ///< query, key and value of head 0, of head 1, …
};

/// Names of tensors, without ".weight" and ".bias". Those of a layer follow `layer` and its number and ".".
/// Empty: there is none.
struct TensorNames {
  std::string prefix = "model.";  ///< of all but the head; files of the bare model lack it
  std::string embedding = "embed_tokens";
  std::string positions;  ///< learned positions, one row each
  std::string final_norm = "norm";
  std::string head = "lm_head";
  std::string layer = "layers.";
  std::string attention_norm = "input_layernorm";  ///< of what attention reads
  std::string attention_out_norm;                  ///< of what attention returns
  std::string query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj";
  std::string fused;  ///< in their place
  std::string query_norm, key_norm;
  std::string output = "self_attn.o_proj";
  std::string mlp_norm = "post_attention_layernorm";
  std::string mlp_out_norm;
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj";
  std::string fused_gate;  ///< gate and up in one
  std::string down = "mlp.down_proj";
  std::vector<std::string> redundant_endings;  ///< of tensors that follow from the configuration
};

/// Sizes carry the names of config.json.
struct ModelConfig {
  std::string architecture;  ///< "LlamaForCausalLM"
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  ///< divides num_attention_heads
  int64_t head_dim = 0;             ///< at most 256
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  bool byte_tokenizer = false;  ///< `"tokenizer": "byte"` (our own key), or a vocabulary of 256

  double embedding_scale = 1;
  std::vector<LayerConfig> layers;
  std::vector<RotaryConfig> rotary;
  NormConfig norm;                      ///< of the hidden state
  HeadNorm head_norm = HeadNorm::none;  ///< of queries and keys, before they turn
  NormConfig head_norm_config;
  double clip_qkv = 0;  ///< queries, keys and values are cut to [−clip, clip]; 0: not
  FusedOrder fused_order = FusedOrder::separate;
  bool transposed = false;  ///< matrices are stored as (inputs, outputs)
  bool qkv_bias = false, output_bias = false, mlp_bias = false, head_bias = false;
  bool gated = true;  ///< down(act(gate x) ∘ up x) instead of down(act(up x))
  Activation activation = Activation::silu;
  bool parallel_residual = false;  ///< attention and feed-forward read the same hidden state
  double residual_scale = 1;       ///< of what attention and feed-forward add
  bool tie_word_embeddings = false;
  double logit_scale = 1;
  double logit_cap = 0;  ///< logits become cap · tanh(logits / cap); 0: not
  TensorNames names;
};

/// Why the model cannot be run over n tokens; empty if it can: learned positions end before.
[[nodiscard]] std::string why_not_length(const ModelConfig& config, int64_t n);

/// The layer's window where it hides keys of a sequence of n tokens, else 0.
[[nodiscard]] int64_t window_within(const LayerConfig& layer, int64_t n);
/// "layer 3 of the model sees a sliding window of 512 tokens (sliding_window)", for messages.
[[nodiscard]] std::string describe_window(const ModelConfig& config, int64_t layer);

/// Logs a warning, once for each folder, where n exceeds the length that the model was made for.
void warn_beyond_trained_length(const ModelConfig& config, const std::string& folder, int64_t n);

}  // namespace hyperattn
