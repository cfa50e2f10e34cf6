// Gemma 3, text alone: norms of queries and keys, and layers with a window that turn by angles of their own.
#include <nlohmann/json.hpp>
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

using nlohmann::json;

// Newer files have a rope object for each type of layer; older ones one for the layers without a window.
const json& object_of(const ConfigFields& fields, const char* type) {
  static const json nothing = json::object();
  const json& by_type = fields.value("rope_parameters");
  if (by_type.is_null()) return nothing;
  const bool known = by_type.is_object() && by_type.contains(type);
  if (!known || by_type.size() != 2)
    fields.refuse("rope_parameters", "an object with full_attention and sliding_attention, or null");
  return by_type.at(type).is_null() ? nothing : by_type.at(type);
}

void read_rotary_by_type(const ConfigFields& fields, ModelConfig& config) {
  if (fields.has("rope_parameters") && fields.has("rope_scaling"))
    fields.refuse("rope_scaling", "absent beside rope_parameters");
  const bool older = fields.has("rope_scaling");
  if (older && !fields.value("rope_scaling").is_object()) fields.refuse("rope_scaling", "an object or null");
  RotaryRules rules = rotary_rules(config);
  rules.default_theta = 1e6;
  const json& full = older ? fields.value("rope_scaling") : object_of(fields, "full_attention");
  config.rotary.push_back(read_rope_object(full, fields, rules));
  rules.default_theta = 1e4;
  rules.theta_key = "rope_local_base_freq";
  config.rotary.push_back(read_rope_object(object_of(fields, "sliding_attention"), fields, rules));
  for (LayerConfig& layer : config.layers) layer.rotary = layer.window > 0 ? 1 : 0;
}

void describe(const ConfigFields& fields, ModelConfig& config) {
  constexpr int64_t kWindow = 4096;
  read_gemma_base(fields, config);
  read_gemma_sandwich(fields, 0, 0, config);
  config.head_norm = HeadNorm::shared;
  config.names.query_norm = "self_attn.q_norm";
  config.names.key_norm = "self_attn.k_norm";
  read_alternating_windows(fields, fields.size("sliding_window_pattern", 6), kWindow, config);
  read_rotary_by_type(fields, config);
}

}  // namespace

const Architecture& gemma3_architecture() {
  static const Architecture architecture{"Gemma3ForCausalLM", "gemma3_text", describe};
  return architecture;
}

}  // namespace hyperattn
