// Command R: LayerNorm without bias, neighbours turn as pairs, side by side, scaled logits.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  config.norm = {NormKind::layer, 0, true, false, 0};
  config.head_norm_config = config.norm;
  read_epsilon(fields, "layer_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.parallel_residual = true;
  config.logit_scale = fields.number("logit_scale", 0.0625);
  if (fields.flag("use_qk_norm")) config.head_norm = HeadNorm::own;
  read_tied(fields, true, config);
  RotaryRules rules = rotary_rules(config);
  rules.interleaved = true;
  rules.default_theta = 500000;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
  config.names.query_norm = "self_attn.q_norm";
  config.names.key_norm = "self_attn.k_norm";
  config.names.mlp_norm = "";
}

}  // namespace

const Architecture& cohere_architecture() {
  static const Architecture architecture{"CohereForCausalLM", "cohere", describe};
  return architecture;
}

}  // namespace hyperattn
