// StableLM: LayerNorm, a part of each head turns, norms of queries and keys head by head, side by side or
// not.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  require_heads_of_hidden_size(fields, config);
  config.norm = {NormKind::layer, 0, true, true, 0};
  config.head_norm_config = {NormKind::layer, 0, true, false, 0};
  read_epsilon(fields, "layer_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = fields.flag("use_qkv_bias");
  config.parallel_residual = fields.flag("use_parallel_residual");
  if (config.parallel_residual) config.names.mlp_norm = "";
  if (fields.flag("qk_layernorm")) config.head_norm = HeadNorm::own_apart;
  config.names.query_norm = "self_attn.q_layernorm.norms.";
  config.names.key_norm = "self_attn.k_layernorm.norms.";
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = true;
  rules.default_partial = 0.25;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& stablelm_architecture() {
  static const Architecture architecture{"StableLmForCausalLM", "stablelm", describe};
  return architecture;
}

}  // namespace hyperattn
