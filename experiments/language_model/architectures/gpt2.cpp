// GPT-2: learned positions, LayerNorm, matrices stored as (inputs, outputs).
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  fields.without_effect({"num_key_value_heads", "head_dim", "intermediate_size", "n_ctx", "summary_type",
                         "summary_use_proj", "summary_activation", "summary_proj_to_labels",
                         "summary_first_dropout", "reorder_and_upcast_attn"});
  config.hidden_size = fields.size_named("n_embd", "hidden_size");
  config.intermediate_size = fields.size("n_inner", 4 * config.hidden_size);
  config.num_hidden_layers = fields.size_named("n_layer", "num_hidden_layers");
  config.num_attention_heads = config.num_key_value_heads =
      fields.size_named("n_head", "num_attention_heads");
  config.vocab_size = fields.size("vocab_size");
  config.max_position_embeddings = fields.size_named("n_positions", "max_position_embeddings");
  config.head_dim = config.hidden_size / config.num_attention_heads;
  require_heads_of_hidden_size(fields, config);
  finish_sizes(fields, config);
  const bool scaled = fields.flag("scale_attn_weights", true);
  const bool by_depth = fields.flag("scale_attn_by_inverse_layer_idx");
  for (size_t l = 0; l < config.layers.size(); ++l) {
    LayerConfig& layer = config.layers[l];
    layer.rotary = -1;
    if (!scaled) layer.scale = 1;
    if (by_depth) layer.scale /= static_cast<double>(l + 1);
  }
  config.norm = {NormKind::layer, 0, true, true, 0};
  read_epsilon(fields, "layer_norm_epsilon", 1e-5, config);
  read_activation(fields, "activation_function", "gelu_new", config);
  config.gated = false;
  config.qkv_bias = config.output_bias = config.mlp_bias = true;
  config.fused_order = FusedOrder::in_turn;
  config.transposed = true;
  read_tied(fields, true, config);
  TensorNames& names = config.names;
  names.prefix = "transformer.";
  names.embedding = "wte";
  names.positions = "wpe";
  names.final_norm = "ln_f";
  names.layer = "h.";
  names.attention_norm = "ln_1";
  names.fused = "attn.c_attn";
  names.output = "attn.c_proj";
  names.mlp_norm = "ln_2";
  names.up = "mlp.c_fc";
  names.down = "mlp.c_proj";
  names.redundant_endings = {".attn.bias", ".attn.masked_bias"};
}

}  // namespace

const Architecture& gpt2_architecture() {
  static const Architecture architecture{"GPT2LMHeadModel", "gpt2", describe};
  return architecture;
}

}  // namespace hyperattn
