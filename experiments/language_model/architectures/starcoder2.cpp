// StarCoder 2: LayerNorm, a plain feed-forward, biases everywhere, and windows in all layers.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  config.norm = {NormKind::layer, 0, true, true, 0};
  read_epsilon(fields, "norm_epsilon", 1e-5, config);
  read_activation(fields, "hidden_act", "gelu_pytorch_tanh", config);
  config.gated = false;
  config.qkv_bias = config.output_bias = config.mlp_bias = fields.flag("use_bias", true);
  read_tied(fields, true, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  read_window_of_all_layers(fields, 0, config);
  // The first files say what has no other value since.
  if (fields.text("mlp_type", "default") != "default") fields.refuse("mlp_type", "\"default\" or absent");
  if (fields.text("norm_type", "layer_norm") != "layer_norm")
    fields.refuse("norm_type", "\"layer_norm\" or absent");
  config.names.up = "mlp.c_fc";
  config.names.down = "mlp.c_proj";
}

}  // namespace

const Architecture& starcoder2_architecture() {
  static const Architecture architecture{"Starcoder2ForCausalLM", "starcoder2", describe};
  return architecture;
}

}  // namespace hyperattn
