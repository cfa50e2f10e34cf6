// Qwen 2 and 2.5: a Llama with biases of queries, keys and values, and windows in its later layers.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = true;
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  read_qwen_windows(fields, config);
}

}  // namespace

const Architecture& qwen2_architecture() {
  static const Architecture architecture{"Qwen2ForCausalLM", "qwen2", describe};
  return architecture;
}

}  // namespace hyperattn
