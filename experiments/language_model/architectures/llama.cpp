// Llama, and the many models that are one.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& llama_architecture() {
  static const Architecture architecture{"LlamaForCausalLM", "llama", describe};
  return architecture;
}

}  // namespace hyperattn
