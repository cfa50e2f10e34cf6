// GLM 4 of 2025: the same with norms of what attention and feed-forward return, too.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  constexpr int64_t kDefaultHeadDim = 128;
  read_sizes(fields, config, kDefaultHeadDim);
  read_epsilon(fields, "rms_norm_eps", 1.5625e-7, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = fields.flag("attention_bias", true);
  config.names.fused_gate = "mlp.gate_up_proj";
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = rules.odd = rules.interleaved = true;
  rules.default_partial = 0.5;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
  config.names.attention_out_norm = "post_self_attn_layernorm";
  config.names.mlp_out_norm = "post_mlp_layernorm";
}

}  // namespace

const Architecture& glm4_architecture() {
  static const Architecture architecture{"Glm4ForCausalLM", "glm4", describe};
  return architecture;
}

}  // namespace hyperattn
