#include "experiments/language_model/model_config.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

using nlohmann::json;

constexpr const char* kArchitecture = "LlamaForCausalLM";
constexpr const char* kModelType = "llama";
constexpr int64_t kMaxHeadDim = 256;  // of the attention backends
constexpr int64_t kByteValues = 256;
// Larger than any model's; keeps every product of two sizes inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 30;

/// Typed access to the fields of config.json; every refusal names file and key.
class Fields {
 public:
  Fields(const json& document, const std::string& name) : document_(document), name_(name) {}

  [[nodiscard]] bool has(const char* key) const {
    const auto found = document_.find(key);
    return found != document_.end() && !found->is_null();
  }

  [[noreturn]] void refuse(const char* key, const std::string& allowed) const {
    fail_input(name_ + ": '" + key + "' must be " + allowed + ", but " +
               (has(key) ? "is " + excerpt(document_.at(key)) : "is missing"));
  }

  [[nodiscard]] int64_t size(const char* key) const {
    if (!has(key) || !document_.at(key).is_number_integer()) refuse(key, "a positive integer");
    const auto value = document_.at(key).get<int64_t>();
    if (value < 1 || value > kMaxSize) refuse(key, "between 1 and " + std::to_string(kMaxSize));
    return value;
  }

  [[nodiscard]] int64_t size(const char* key, int64_t fallback) const {
    return has(key) ? size(key) : fallback;
  }

  [[nodiscard]] double positive(const char* key) const {
    if (!has(key) || !document_.at(key).is_number()) refuse(key, "a positive number");
    const auto value = document_.at(key).get<double>();
    if (!(value > 0) || !std::isfinite(value)) refuse(key, "a positive number");
    return value;
  }

  [[nodiscard]] bool flag(const char* key) const {
    if (!has(key)) return false;
    if (!document_.at(key).is_boolean()) refuse(key, "true or false");
    return document_.at(key).get<bool>();
  }

  [[nodiscard]] bool is_text(const char* key, const char* value) const {
    return has(key) && document_.at(key).is_string() && document_.at(key).get<std::string>() == value;
  }

 private:
  const json& document_;
  const std::string& name_;
};

bool names_architecture(const json& document) {
  const auto found = document.find("architectures");
  if (found == document.end() || !found->is_array()) return false;
  for (const json& item : *found)
    if (item.is_string() && item.get<std::string>() == kArchitecture) return true;
  return false;
}

// Rotary positions as they are, whatever key the version that wrote the file used for their kind.
bool is_plain_rotation(const json& rope) {
  if (!rope.is_object()) return false;
  const json kind = rope.value("rope_type", rope.value("type", json("default")));
  return kind == "default";
}

// Options of Llama-like models that would change the forward pass and that this one does not have.
void check_supported(const json& document, const Fields& fields) {
  if (!names_architecture(document))
    fields.refuse("architectures", std::string("[\"") + kArchitecture + "\"], the only one supported");
  if (fields.has("model_type") && !fields.is_text("model_type", kModelType))
    fields.refuse("model_type", std::string("\"") + kModelType + "\" or absent");
  if (!fields.is_text("hidden_act", "silu")) fields.refuse("hidden_act", "\"silu\"");
  for (const char* key : {"sliding_window", "quantization_config"})
    if (fields.has(key)) fields.refuse(key, "null or absent (it is not supported)");
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (fields.has(key) && !is_plain_rotation(document.at(key)))
      fields.refuse(key, "null, absent or of the rope_type \"default\" (no other is supported)");
  if (fields.flag("rope_interleaved")) fields.refuse("rope_interleaved", "false or absent");
  if (fields.has("partial_rotary_factor") && document.at("partial_rotary_factor") != 1)
    fields.refuse("partial_rotary_factor", "1 or absent");
}

// Newer files have it inside `rope_parameters`.
double read_rope_theta(const json& document, const Fields& fields, const std::string& name, double fallback) {
  const double theta = fields.has("rope_theta") ? fields.positive("rope_theta") : fallback;
  if (!fields.has("rope_parameters")) return theta;
  const Fields inner(document.at("rope_parameters"), name);
  if (!inner.has("rope_theta")) return theta;
  const double inner_theta = inner.positive("rope_theta");
  if (fields.has("rope_theta") && inner_theta != theta)
    fields.refuse("rope_theta", "the same as in rope_parameters");
  return inner_theta;
}

void check_consistent(const ModelConfig& config, const Fields& fields) {
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    fields.refuse("num_key_value_heads",
                  "a divisor of num_attention_heads (" + std::to_string(config.num_attention_heads) + ")");
  if (!fields.has("head_dim") && config.hidden_size % config.num_attention_heads != 0)
    fields.refuse("num_attention_heads", "a divisor of hidden_size (" + std::to_string(config.hidden_size) +
                                             ") where head_dim is not given");
  if (config.head_dim % 2 != 0 || config.head_dim > kMaxHeadDim)
    fields.refuse("head_dim", "even and at most " + std::to_string(kMaxHeadDim) +
                                  " (by default it is hidden_size / num_attention_heads = " +
                                  std::to_string(config.hidden_size / config.num_attention_heads) + ")");
}

}  // namespace

ModelConfig parse_model_config(const std::string& text, const std::string& name) {
  const json document = parse_json_object(text, name);
  const Fields fields(document, name);
  check_supported(document, fields);
  ModelConfig config;
  config.hidden_size = fields.size("hidden_size");
  config.intermediate_size = fields.size("intermediate_size");
  config.num_hidden_layers = fields.size("num_hidden_layers");
  config.num_attention_heads = fields.size("num_attention_heads");
  config.num_key_value_heads = fields.size("num_key_value_heads", config.num_attention_heads);
  config.head_dim = fields.size("head_dim", config.hidden_size / config.num_attention_heads);
  config.vocab_size = fields.size("vocab_size");
  config.max_position_embeddings = fields.size("max_position_embeddings");
  config.rms_norm_eps = fields.positive("rms_norm_eps");
  config.rope_theta = read_rope_theta(document, fields, name, config.rope_theta);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings");
  config.attention_bias = fields.flag("attention_bias");
  config.mlp_bias = fields.flag("mlp_bias");
  config.byte_tokenizer = fields.is_text("tokenizer", "byte") || config.vocab_size == kByteValues;
  check_consistent(config, fields);
  return config;
}

ModelConfig read_model_config(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  return parse_model_config(read_whole_file(path), path);
}

}  // namespace hyperattn
