// SmolLM 3: a Llama with layers that have no positions.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

// `no_rope_layers` has 1 for a layer that turns; by default every fourth does not.
void read_layers_without_positions(const ConfigFields& fields, ModelConfig& config) {
  const int64_t interval = fields.size("no_rope_layer_interval", 4);
  const nlohmann::json& list = fields.value("no_rope_layers");
  const bool given = !list.is_null();
  if (given && (!list.is_array() || list.size() != config.layers.size()))
    fields.refuse("no_rope_layers",
                  fmt::format("a list of num_hidden_layers ({}) numbers 0 or 1", config.num_hidden_layers));
  for (size_t l = 0; l < config.layers.size(); ++l) {
    bool turns = (static_cast<int64_t>(l) + 1) % interval != 0;
    if (given) {
      if (list[l] != 0 && list[l] != 1) fields.refuse("no_rope_layers", "a list of numbers 0 or 1");
      turns = list[l] == 1;
    }
    config.layers[l].rotary = turns ? 0 : -1;
  }
}

// By default the layers without positions slide, where a window is used at all.
void read_windows(const ConfigFields& fields, ModelConfig& config) {
  const bool used = fields.flag("use_sliding_window") && fields.has("sliding_window");
  const std::vector<std::string> types = read_layer_types(fields, config);
  for (size_t l = 0; l < config.layers.size(); ++l) {
    LayerConfig& layer = config.layers[l];
    const bool slides = types.empty() ? used && layer.rotary < 0 : types[l] == "sliding_attention";
    if (slides && !used)
      fields.refuse("layer_types", "\"full_attention\" for all layers where no window is used");
    if (slides) layer.window = fields.size("sliding_window");
  }
}

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  config.qkv_bias = config.output_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  read_tied(fields, true, config);
  RotaryRules rules = rotary_rules(config);
  rules.default_theta = 2000000;
  read_rotary_of_all_layers(fields, rules, config);
  read_layers_without_positions(fields, config);
  read_windows(fields, config);
  fields.without_effect({"max_window_layers"});
}

}  // namespace

const Architecture& smollm3_architecture() {
  static const Architecture architecture{"SmolLM3ForCausalLM", "smollm3", describe};
  return architecture;
}

}  // namespace hyperattn
