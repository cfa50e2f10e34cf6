// The `config.json` of a Llama-style decoder in the Hugging Face layout.
#pragma once

#include <cstdint>
#include <string>

namespace hyperattn {

/// Fields carry the names of config.json.
struct ModelConfig {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  ///< default num_attention_heads; divides it
  int64_t head_dim = 0;             ///< default hidden_size / num_attention_heads; even, at most 256
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 10000;  ///< of its own key or of `rope_parameters`
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool byte_tokenizer = false;  ///< `"tokenizer": "byte"` (our own key), or a vocabulary of 256
};

/// Reads FOLDER/config.json. Error(input) that names file, key, value and what is allowed: a missing or
/// wrongly typed field, sizes that do not fit together, another architecture than LlamaForCausalLM or
/// model_type than llama, another activation than silu, rotary positions of another kind than "default", a
/// sliding window or another option that changes the computation.
[[nodiscard]] ModelConfig read_model_config(const std::string& folder);

/// The same for the text of such a file; `name` stands for it in messages.
[[nodiscard]] ModelConfig parse_model_config(const std::string& text, const std::string& name);

}  // namespace hyperattn
