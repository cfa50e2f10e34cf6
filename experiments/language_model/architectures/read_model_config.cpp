#include "experiments/language_model/architectures/read_model_config.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "experiments/files/json_file.h"
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kByteValues = 256;

const Architecture* find_by_name(const std::string& name) {
  for (const Architecture* architecture : all_architectures())
    if (architecture->name == name) return architecture;
  return nullptr;
}

const Architecture* find_by_type(const std::string& type) {
  for (const Architecture* architecture : all_architectures())
    if (architecture->model_type == type) return architecture;
  return nullptr;
}

// The architecture that `architectures` names, or without it the one of `model_type`.
const Architecture& find_architecture(const ConfigFields& fields) {
  const std::vector<std::string> named = fields.texts("architectures");
  const std::string type = fields.text("model_type", "");
  const Architecture* found = named.empty() ? find_by_type(type) : nullptr;
  for (const std::string& name : named)
    if (found == nullptr) found = find_by_name(name);
  if (found == nullptr)
    fields.refuse(named.empty() && fields.has("model_type") ? "model_type" : "architectures",
                  fmt::format("one of those that are built ({})", architecture_names()));
  if (!type.empty() && type != found->model_type)
    fields.refuse("model_type",
                  fmt::format("\"{}\", as {} has it, or absent", found->model_type, found->name));
  return *found;
}

void refuse_quantised(const ConfigFields& fields) {
  for (const char* key : {"quantization_config", "quantization", "compression_config"})
    if (fields.has(key))
      fields.refuse(key,
                    "absent: quantised weights are not read; save the model in float16, bfloat16 or "
                    "float32 first");
}

// Attention to later tokens, which transformers computes for any decoder whose file says so, also by null.
void refuse_not_causal(const ConfigFields& fields) {
  if (fields.is_null("is_causal") || !fields.flag("is_causal", true))
    fields.refuse("is_causal", "true or absent (attention without a causal mask is not built)");
}

// A path that names a file, or a folder without config.json.
void check_is_model_folder(const fs::path& folder) {
  std::error_code error;
  const bool is_gguf = folder.extension() == ".gguf";
  bool holds_gguf = false;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    holds_gguf = holds_gguf || entry->path().extension() == ".gguf";
  if (fs::exists(folder / "config.json", error)) return;
  if (is_gguf || holds_gguf)
    fail_input(
        fmt::format("the model '{}' {} a GGUF file, which is not read: convert it to a folder with "
                    "config.json and model.safetensors, as scripts/fetch_smollm2.sh does for SmolLM2",
                    folder.string(), is_gguf ? "is" : "has only"));
}

}  // namespace

ModelConfig parse_model_config(const std::string& text, const std::string& name) {
  const json document = parse_json_object(text, name);
  const ConfigFields fields(document, name);
  const Architecture& architecture = find_architecture(fields);
  refuse_quantised(fields);
  refuse_not_causal(fields);
  ModelConfig config;
  config.architecture = architecture.name;
  architecture.describe(fields, config);
  config.byte_tokenizer = fields.value("tokenizer") == "byte" || config.vocab_size == kByteValues;
  // Where an architecture does not read these, the shapes and names of its tensors say them.
  fields.without_effect({"attention_bias", "mlp_bias"});
  fields.refuse_unread(architecture.name);
  return config;
}

ModelConfig read_model_config(const std::string& folder) {
  check_is_model_folder(folder);
  const std::string path = (fs::path(folder) / "config.json").string();
  return parse_model_config(read_whole_file(path), path);
}

}  // namespace hyperattn
