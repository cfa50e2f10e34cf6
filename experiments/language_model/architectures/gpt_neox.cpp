// GPT-NeoX and Pythia: LayerNorm, a part of each head turns, matrices fused head by head, side by side or
// not.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  fields.without_effect({"num_key_value_heads"});
  config.hidden_size = fields.size("hidden_size");
  config.intermediate_size = fields.size("intermediate_size");
  config.num_hidden_layers = fields.size("num_hidden_layers");
  config.num_attention_heads = config.num_key_value_heads = fields.size("num_attention_heads");
  config.vocab_size = fields.size("vocab_size");
  config.max_position_embeddings = fields.size("max_position_embeddings");
  config.head_dim = fields.size("head_dim", config.hidden_size / config.num_attention_heads);
  require_heads_of_hidden_size(fields, config);
  finish_sizes(fields, config);
  config.norm = {NormKind::layer, 0, true, true, 0};
  read_epsilon(fields, "layer_norm_eps", 1e-5, config);
  read_activation(fields, "hidden_act", "gelu", config);
  config.parallel_residual = fields.flag("use_parallel_residual", true);
  config.gated = false;
  config.qkv_bias = config.output_bias = fields.flag("attention_bias", true);
  config.mlp_bias = true;
  config.fused_order = FusedOrder::by_head;
  read_tied(fields, false, config);
  RotaryRules rules = rotary_rules(config);
  rules.partial = rules.odd = true;
  rules.default_partial = 0.25;
  rules.theta_key = "rotary_emb_base";
  rules.partial_key = "rotary_pct";
  read_rotary_of_all_layers(fields, rules, config);
  refuse_windows(fields, config);
  TensorNames& names = config.names;
  names.prefix = "gpt_neox.";
  names.embedding = "embed_in";
  names.final_norm = "final_layer_norm";
  names.head = "embed_out";
  names.fused = "attention.query_key_value";
  names.output = "attention.dense";
  names.up = "mlp.dense_h_to_4h";
  names.down = "mlp.dense_4h_to_h";
  names.redundant_endings = {".attention.bias", ".attention.masked_bias"};
}

}  // namespace

const Architecture& gpt_neox_architecture() {
  static const Architecture architecture{"GPTNeoXForCausalLM", "gpt_neox", describe};
  return architecture;
}

}  // namespace hyperattn
