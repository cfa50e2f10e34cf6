// Nemotron: LayerNorm that multiplies by 1 + w, a plain feed-forward, a part of each head turns.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  config.norm = {NormKind::layer, 0, true, true, 1};
  read_epsilon(fields, "norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "relu2", config);
  config.gated = false;
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = rules.odd = true;
  rules.default_partial = 0.5;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& nemotron_architecture() {
  static const Architecture architecture{"NemotronForCausalLM", "nemotron", describe};
  return architecture;
}

}  // namespace hyperattn
