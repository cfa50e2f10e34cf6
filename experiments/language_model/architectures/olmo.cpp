// OLMo 1: LayerNorm without weights; queries, keys and values may be clipped.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  constexpr double kEpsilon = 1e-5;  // no key has it
  config.norm = {NormKind::layer, kEpsilon, false, false, 0};
  fields.without_effect({"rms_norm_eps", "layer_norm_eps"});
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  if (fields.has("clip_qkv")) config.clip_qkv = fields.positive("clip_qkv");
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& olmo_architecture() {
  static const Architecture architecture{"OlmoForCausalLM", "olmo", describe};
  return architecture;
}

}  // namespace hyperattn
