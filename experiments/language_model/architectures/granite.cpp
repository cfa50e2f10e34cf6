// Granite 3: a Llama with multipliers of embeddings, scores, residuals and logits.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  config.embedding_scale = fields.number("embedding_multiplier", 1);
  config.residual_scale = fields.number("residual_multiplier", 1);
  config.logit_scale = 1 / fields.positive("logits_scaling", 1);
  for (LayerConfig& layer : config.layers) layer.scale = fields.number("attention_multiplier", 1);
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& granite_architecture() {
  static const Architecture architecture{"GraniteForCausalLM", "granite", describe};
  return architecture;
}

}  // namespace hyperattn
