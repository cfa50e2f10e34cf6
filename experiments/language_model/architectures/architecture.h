// One file for each architecture: how its config.json is read into the shared pieces, and what its tensors
// are called. Everything that is computed lies in decoder.cpp and the pieces that it uses.
#pragma once

#include <string>
#include <vector>

#include "experiments/language_model/config/config_fields.h"
#include "experiments/language_model/config/model_config.h"

namespace hyperattn {

struct Architecture {
  std::string name;        ///< in `architectures`: "LlamaForCausalLM"
  std::string model_type;  ///< "llama"
  /// Fills what the configuration says; the rest of `config` is as ModelConfig has it, which is a Llama.
  void (*describe)(const ConfigFields& fields, ModelConfig& config);
};

/// In alphabetical order of their files.
[[nodiscard]] const std::vector<const Architecture*>& all_architectures();
/// "LlamaForCausalLM, …".
[[nodiscard]] std::string architecture_names();

// ---- What several files share. All keys have transformers' names and defaults. ----

/// hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads (default: as
/// many as heads), head_dim (default: `default_head_dim`, or where that is 0 hidden_size / heads),
/// vocab_size, max_position_embeddings; `layers` of default scale with rotary positions 0 and no window.
void read_sizes(const ConfigFields& fields, ModelConfig& config, int64_t default_head_dim = 0);
/// What follows from the sizes: checks them, and makes `layers`.
void finish_sizes(const ConfigFields& fields, ModelConfig& config);
/// For architectures whose heads share hidden_size whatever head_dim says.
void require_heads_of_hidden_size(const ConfigFields& fields, const ModelConfig& config);

/// The epsilon of all norms; other architectures' names for it have no effect beside this one.
void read_epsilon(const ConfigFields& fields, const char* key, double fallback, ModelConfig& config);
void read_activation(const ConfigFields& fields, const char* key, const char* fallback, ModelConfig& config);
[[nodiscard]] Activation activation_named(const ConfigFields& fields, const char* key,
                                          const std::string& name);
void read_tied(const ConfigFields& fields, bool fallback, ModelConfig& config);

/// With head_dim and max_position_embeddings of the model.
[[nodiscard]] RotaryRules rotary_rules(const ModelConfig& config);
/// One kind for all layers.
void read_rotary_of_all_layers(const ConfigFields& fields, const RotaryRules& rules, ModelConfig& config);

/// `layer_types`, one for each layer; empty where the key is absent. Error(input) for other types than
/// "full_attention" and "sliding_attention".
[[nodiscard]] std::vector<std::string> read_layer_types(const ConfigFields& fields,
                                                        const ModelConfig& config);
/// `sliding_window` for the layers of the type "sliding_attention", or without `layer_types` for all but
/// every `period`-th.
void read_alternating_windows(const ConfigFields& fields, int64_t period, int64_t default_window,
                              ModelConfig& config);
/// `sliding_window` (`fallback` where the key is absent, 0: none) for all layers.
void read_window_of_all_layers(const ConfigFields& fields, int64_t fallback, ModelConfig& config);
/// use_sliding_window, sliding_window, max_window_layers and layer_types as Qwen has them.
void read_qwen_windows(const ConfigFields& fields, ModelConfig& config);
/// What all Gemmas share: (1 + w) norms, scaled embeddings, heads of 256 by default, a tied head.
void read_gemma_base(const ConfigFields& fields, ModelConfig& config);
/// What Gemma 2 and 3 share beside that: `hidden_activation`, norms before and after, their own scale of
/// scores, capped logits; capped scores, which no attention here has, are refused.
void read_gemma_sandwich(const ConfigFields& fields, double default_score_cap, double default_logit_cap,
                         ModelConfig& config);
/// Refuses windows, under each of these names.
void refuse_windows(const ConfigFields& fields, const ModelConfig& config);

}  // namespace hyperattn
