#include "experiments/language_model/architectures/architecture.h"

#include <fmt/core.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"

namespace hyperattn {
namespace {

constexpr int64_t kMaxHeadDim = 256;  // of the attention backends
constexpr int64_t kMaxLayers =
    10'000;  // many times any model's; each takes memory before its weights are seen
constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";

const std::map<std::string, Activation>& activations() {
  static const std::map<std::string, Activation> by_name = {{"silu", Activation::silu},
                                                            {"swish", Activation::silu},
                                                            {"gelu", Activation::gelu},
                                                            {"gelu_python", Activation::gelu},
                                                            {"gelu_new", Activation::gelu_tanh},
                                                            {"gelu_fast", Activation::gelu_tanh},
                                                            {"gelu_accurate", Activation::gelu_tanh},
                                                            {"gelu_pytorch_tanh", Activation::gelu_tanh},
                                                            {"gelu_python_tanh", Activation::gelu_tanh},
                                                            {"quick_gelu", Activation::gelu_quick},
                                                            {"relu", Activation::relu},
                                                            {"relu2", Activation::relu_squared}};
  return by_name;
}

}  // namespace

std::string architecture_names() {
  std::vector<std::string> names;
  for (const Architecture* architecture : all_architectures()) names.push_back(architecture->name);
  return join(names);
}

void read_sizes(const ConfigFields& fields, ModelConfig& config, int64_t default_head_dim) {
  config.hidden_size = fields.size("hidden_size");
  config.intermediate_size = fields.size("intermediate_size");
  config.num_hidden_layers = fields.size("num_hidden_layers");
  config.num_attention_heads = fields.size("num_attention_heads");
  config.num_key_value_heads = fields.size("num_key_value_heads", config.num_attention_heads);
  config.vocab_size = fields.size("vocab_size");
  config.max_position_embeddings = fields.size("max_position_embeddings");
  const bool derived = !fields.has("head_dim") && default_head_dim == 0;
  if (derived && config.hidden_size % config.num_attention_heads != 0)
    fields.refuse(
        "num_attention_heads",
        fmt::format("a divisor of hidden_size ({}) where head_dim is not given", config.hidden_size));
  config.head_dim =
      derived ? config.hidden_size / config.num_attention_heads : fields.size("head_dim", default_head_dim);
  if (config.head_dim < 1) fields.refuse("num_attention_heads", "at most hidden_size");
  finish_sizes(fields, config);
}

void finish_sizes(const ConfigFields& fields, ModelConfig& config) {
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    fields.refuse("num_key_value_heads",
                  fmt::format("a divisor of num_attention_heads ({})", config.num_attention_heads));
  if (config.head_dim > kMaxHeadDim)
    fail_input(fmt::format(
        "{}: a head must have at most {} numbers, but has {} ('head_dim', by default 'hidden_size' / heads)",
        fields.name(), kMaxHeadDim, config.head_dim));
  if (config.num_hidden_layers > kMaxLayers)
    fail_input(
        fmt::format("{}: a model must have at most {} layers ('num_hidden_layers' or 'n_layer'), but has {}",
                    fields.name(), kMaxLayers, config.num_hidden_layers));
  LayerConfig layer;
  layer.scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.layers.assign(static_cast<size_t>(config.num_hidden_layers), layer);
}

void require_heads_of_hidden_size(const ConfigFields& fields, const ModelConfig& config) {
  if (config.head_dim * config.num_attention_heads != config.hidden_size)
    fields.refuse("head_dim", fmt::format("hidden_size / heads ({} / {}) for this architecture",
                                          config.hidden_size, config.num_attention_heads));
}

void read_epsilon(const ConfigFields& fields, const char* key, double fallback, ModelConfig& config) {
  config.norm.epsilon = fields.number(key, fallback);
  if (config.norm.epsilon < 0) fields.refuse(key, "a number that is not negative");
  config.head_norm_config.epsilon = config.norm.epsilon;
  if (fields.has(key))
    fields.without_effect(
        {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"});
}

Activation activation_named(const ConfigFields& fields, const char* key, const std::string& name) {
  const auto found = activations().find(name);
  if (found != activations().end()) return found->second;
  std::vector<std::string> allowed;
  for (const auto& [known, activation] : activations()) allowed.push_back(known);
  fields.refuse(key, "one of " + join(allowed));
}

void read_activation(const ConfigFields& fields, const char* key, const char* fallback, ModelConfig& config) {
  config.activation = activation_named(fields, key, fields.text(key, fallback));
}

void read_tied(const ConfigFields& fields, bool fallback, ModelConfig& config) {
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", fallback);
}

RotaryRules rotary_rules(const ModelConfig& config) {
  RotaryRules rules;
  rules.head_dim = config.head_dim;
  rules.max_position_embeddings = static_cast<double>(config.max_position_embeddings);
  return rules;
}

void read_rotary_of_all_layers(const ConfigFields& fields, const RotaryRules& rules, ModelConfig& config) {
  config.rotary = {read_rotary(fields, rules)};
}

std::vector<std::string> read_layer_types(const ConfigFields& fields, const ModelConfig& config) {
  std::vector<std::string> types = fields.texts("layer_types");
  for (const std::string& type : types)
    if (type != kFull && type != kSliding)
      fields.refuse("layer_types", fmt::format("a list of \"{}\" and \"{}\"", kFull, kSliding));
  if (!types.empty() && types.size() != config.layers.size())
    fields.refuse("layer_types",
                  fmt::format("a list of num_hidden_layers ({}) types", config.num_hidden_layers));
  return types;
}

void read_alternating_windows(const ConfigFields& fields, int64_t period, int64_t default_window,
                              ModelConfig& config) {
  const std::vector<std::string> types = read_layer_types(fields, config);
  const bool null = fields.is_null("sliding_window");
  const int64_t window = fields.size("sliding_window", default_window);
  for (size_t l = 0; l < config.layers.size(); ++l) {
    const bool slides = types.empty() ? (static_cast<int64_t>(l) + 1) % period != 0 : types[l] == kSliding;
    if (slides && null) fields.refuse("sliding_window", "a positive integer where a layer slides");
    if (slides) config.layers[l].window = window;
  }
}

void read_window_of_all_layers(const ConfigFields& fields, int64_t fallback, ModelConfig& config) {
  const int64_t window = fields.is_null("sliding_window") ? 0
                         : fields.has("sliding_window")   ? fields.size("sliding_window")
                                                          : fallback;
  for (LayerConfig& layer : config.layers) layer.window = window;
  const std::vector<std::string> types = read_layer_types(fields, config);
  for (const std::string& type : types)
    if ((type == kSliding) != (window > 0))
      fields.refuse("layer_types", fmt::format("\"{}\" for all layers, as sliding_window says, or absent",
                                               window > 0 ? kSliding : kFull));
}

void read_qwen_windows(const ConfigFields& fields, ModelConfig& config) {
  const bool used = fields.flag("use_sliding_window") && !fields.is_null("sliding_window");
  const int64_t window = fields.size("sliding_window", 4096);
  const int64_t first = fields.has("max_window_layers") && fields.value("max_window_layers") == 0
                            ? 0
                            : fields.size("max_window_layers", 28);
  const std::vector<std::string> types = read_layer_types(fields, config);
  for (size_t l = 0; l < config.layers.size(); ++l) {
    const bool slides = types.empty() ? used && static_cast<int64_t>(l) >= first : types[l] == kSliding;
    if (slides && !used)
      fields.refuse(
          "layer_types",
          fmt::format(
              "\"{}\" for all layers where use_sliding_window is not true or there is no sliding_window",
              kFull));
    if (slides) config.layers[l].window = window;
  }
}

void read_gemma_base(const ConfigFields& fields, ModelConfig& config) {
  constexpr int64_t kDefaultHeadDim = 256;
  read_sizes(fields, config, kDefaultHeadDim);
  config.norm.weight_offset = config.head_norm_config.weight_offset = 1;
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  read_tied(fields, true, config);
}

void read_gemma_sandwich(const ConfigFields& fields, double default_score_cap, double default_logit_cap,
                         ModelConfig& config) {
  read_activation(fields, "hidden_activation", "gelu_pytorch_tanh", config);
  const bool capped = fields.has("attn_logit_softcapping") ||
                      (default_score_cap > 0 && !fields.is_null("attn_logit_softcapping"));
  if (capped)
    fields.refuse("attn_logit_softcapping",
                  "null: attention scores with a soft cap are not built" +
                      (default_score_cap > 0 ? std::string(" (an absent key means a cap)") : std::string()));
  if (!fields.is_null("final_logit_softcapping"))
    config.logit_cap = fields.has("final_logit_softcapping") ? fields.positive("final_logit_softcapping")
                                                             : default_logit_cap;
  constexpr double kDefaultScalar = 256;
  for (LayerConfig& layer : config.layers)
    layer.scale = 1 / std::sqrt(fields.positive("query_pre_attn_scalar", kDefaultScalar));
  config.names.attention_out_norm = "post_attention_layernorm";
  config.names.mlp_norm = "pre_feedforward_layernorm";
  config.names.mlp_out_norm = "post_feedforward_layernorm";
}

void refuse_windows(const ConfigFields& fields, const ModelConfig& config) {
  if (fields.has("sliding_window")) fields.refuse("sliding_window", "null or absent for this architecture");
  if (fields.flag("use_sliding_window"))
    fields.refuse("use_sliding_window", "false or absent for this architecture");
  for (const std::string& type : read_layer_types(fields, config))
    if (type != kFull)
      fields.refuse("layer_types", fmt::format("\"{}\" for all layers for this architecture", kFull));
}

}  // namespace hyperattn
