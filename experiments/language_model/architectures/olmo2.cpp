// OLMo 2: norms of what attention and feed-forward return instead of what they read; queries and keys normed
// across all heads.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.head_norm = HeadNorm::whole;
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
  TensorNames& names = config.names;
  names.query_norm = "self_attn.q_norm";
  names.key_norm = "self_attn.k_norm";
  names.attention_norm = "";
  names.attention_out_norm = "post_attention_layernorm";
  names.mlp_norm = "";
  names.mlp_out_norm = "post_feedforward_layernorm";
}

}  // namespace

const Architecture& olmo2_architecture() {
  static const Architecture architecture{"Olmo2ForCausalLM", "olmo2", describe};
  return architecture;
}

}  // namespace hyperattn
