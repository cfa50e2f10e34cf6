// Seed-OSS: a Llama with a bias of its own for the output of attention.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  // An absent head_dim is 128, one that is null hidden_size / heads.
  constexpr int64_t kDefaultHeadDim = 128;
  read_sizes(fields, config, fields.is_null("head_dim") ? 0 : kDefaultHeadDim);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = fields.flag("attention_bias", true);
  config.output_bias = fields.flag("attention_out_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& seed_oss_architecture() {
  static const Architecture architecture{"SeedOssForCausalLM", "seed_oss", describe};
  return architecture;
}

}  // namespace hyperattn
