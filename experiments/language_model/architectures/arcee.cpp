// AFM: a Llama with a plain feed-forward.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "relu2", config);
  config.gated = false;
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& arcee_architecture() {
  static const Architecture architecture{"ArceeForCausalLM", "arcee", describe};
  return architecture;
}

}  // namespace hyperattn
