// Qwen 3: RMSNorm of each query and key before it turns.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  constexpr int64_t kDefaultHeadDim = 128;
  read_sizes(fields, config, kDefaultHeadDim);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.head_norm = HeadNorm::shared;
  config.names.query_norm = "self_attn.q_norm";
  config.names.key_norm = "self_attn.k_norm";
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  read_qwen_windows(fields, config);
}

}  // namespace

const Architecture& qwen3_architecture() {
  static const Architecture architecture{"Qwen3ForCausalLM", "qwen3", describe};
  return architecture;
}

}  // namespace hyperattn
