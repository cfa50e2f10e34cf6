// ERNIE 4.5: a Llama whose neighbours turn as pairs.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  // An absent head_dim is 128, one that is null hidden_size / heads.
  constexpr int64_t kDefaultHeadDim = 128;
  read_sizes(fields, config, fields.is_null("head_dim") ? 0 : kDefaultHeadDim);
  read_epsilon(fields, "rms_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = config.mlp_bias = fields.flag("use_bias");
  read_tied(fields, true, config);
  RotaryRules rules = rotary_rules(config);
  rules.interleaved = true;
  rules.default_theta = 500000;
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& ernie4_5_architecture() {
  static const Architecture architecture{"Ernie4_5ForCausalLM", "ernie4_5", describe};
  return architecture;
}

}  // namespace hyperattn
