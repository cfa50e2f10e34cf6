// Phi 3 and 3.5: a Llama with fused matrices, longrope, and windows in all layers.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.fused_order = FusedOrder::in_turn;
  config.names.fused = "self_attn.qkv_proj";
  config.names.fused_gate = "mlp.gate_up_proj";
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = rules.odd = rules.longrope_only = true;
  rules.default_original_length = 4096;
  read_rotary_of_all_layers(fields, rules, config);
  read_window_of_all_layers(fields, 0, config);
}

}  // namespace

const Architecture& phi3_architecture() {
  static const Architecture architecture{"Phi3ForCausalLM", "phi3", describe};
  return architecture;
}

}  // namespace hyperattn
