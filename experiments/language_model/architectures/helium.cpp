// Helium: a Llama whose neighbours turn as pairs.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  constexpr int64_t kDefaultHeadDim = 128;
  read_sizes(fields, config, kDefaultHeadDim);
  require_heads_of_hidden_size(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-8, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.interleaved = true;
  rules.default_theta = 100000;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& helium_architecture() {
  static const Architecture architecture{"HeliumForCausalLM", "helium", describe};
  return architecture;
}

}  // namespace hyperattn
