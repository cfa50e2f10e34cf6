// Phi 1, 1.5 and 2: attention and a plain feed-forward side by side, both reading one LayerNorm.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  config.norm = {NormKind::layer, 0, true, true, 0};
  config.head_norm_config = config.norm;
  read_epsilon(fields, "layer_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "gelu_new", config);
  config.parallel_residual = true;
  config.gated = false;
  config.qkv_bias = config.output_bias = config.mlp_bias = config.head_bias = true;
  if (fields.flag("qk_layernorm")) {
    require_heads_of_hidden_size(fields, config);
    config.head_norm = HeadNorm::shared;
  }
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = true;
  rules.default_partial = 0.5;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
  TensorNames& names = config.names;
  names.final_norm = "final_layernorm";
  names.query_norm = "self_attn.q_layernorm";
  names.key_norm = "self_attn.k_layernorm";
  names.output = "self_attn.dense";
  names.mlp_norm = "";
  names.up = "mlp.fc1";
  names.down = "mlp.fc2";
}

}  // namespace

const Architecture& phi_architecture() {
  static const Architecture architecture{"PhiForCausalLM", "phi", describe};
  return architecture;
}

}  // namespace hyperattn
