#include "experiments/config/where_names.h"

#include <fmt/core.h>

#include <algorithm>

#include "algorithms/backend.h"
#include "core/error.h"
#include "experiments/config/sections.h"

namespace hyperattn {
namespace {

constexpr const char* kOfInputs = "inputs.";
constexpr const char* kOfBackends = "backends.";

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

WhereValue to_where_value(const std::string& name, const ParameterValue& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  fail_usage(fmt::format("cannot use '{}', which is a list", name));
}

std::optional<WhereValue> parameter(const Parameters& parameters, const std::string& name) {
  if (!parameters.has(name)) return {};
  return to_where_value(name, parameters.all().at(name));
}

std::optional<WhereValue> problem_value(const InputPoint& input, const std::string& name) {
  if (name == "causal") return input.causal;
  if (name != "scale") return {};
  if (input.scale) return *input.scale;
  if (!input.shapes) return {};
  return static_cast<double>(default_scale(input.shapes->query.dim));
}

std::optional<WhereValue> shape_value(const InputPoint& input, const std::string& name) {
  if (!input.shapes) return {};
  const InputShapes& shapes = *input.shapes;
  if (name == "seq_len") return static_cast<double>(shapes.query.rows);
  if (name == "key_len") return static_cast<double>(shapes.key.rows);
  if (name == "head_dim") return static_cast<double>(shapes.query.dim);
  if (name == "value_dim") return static_cast<double>(shapes.value.dim);
  if (name == "heads") return static_cast<double>(shapes.query.heads);
  if (name == "kv_heads") return static_cast<double>(shapes.key.heads);
  if (name == "batch") return static_cast<double>(shapes.query.batch);
  return {};
}

std::optional<WhereValue> input_value(const InputPoint& input, const std::string& name) {
  if (auto value = problem_value(input, name)) return value;
  if (auto value = shape_value(input, name)) return value;
  return parameter(input.parameters, name);
}

}  // namespace

std::vector<std::string> where_names(const std::vector<std::string>& input_parameters,
                                     const std::vector<std::string>& backend_parameters) {
  std::vector<std::string> names = {"backend", "source",   "label",   "pass",     "causal",
                                    "scale",   "seq_len",  "key_len", "head_dim", "value_dim",
                                    "heads",   "kv_heads", "batch"};
  for (const auto* parameters : {&input_parameters, &backend_parameters})
    for (const std::string& name : *parameters)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  for (const std::string& name : input_parameters) names.push_back(kOfInputs + name);
  for (const std::string& name : backend_parameters) names.push_back(kOfBackends + name);
  return names;
}

WhereType where_type(const std::string& name, const Registry& registry,
                     const std::vector<ParameterSpec>& parameters) {
  WhereType type;
  if (name == "backend") type.words = backends_section().names(registry);
  if (name == "source") type.words = inputs_section().names(registry);
  if (name == "pass") type.words = {pass_name(PassKind::forward), pass_name(PassKind::forward_backward)};
  type.any_text = name == "label";
  for (const char* shape :
       {"scale", "seq_len", "key_len", "head_dim", "value_dim", "heads", "kv_heads", "batch"})
    type.number = type.number || name == shape;
  for (const ParameterSpec& spec : parameters) {
    type.number = type.number || spec.type == ParameterType::integer || spec.type == ParameterType::number;
    type.truth = type.truth || spec.type == ParameterType::boolean;
    type.any_text = type.any_text || spec.type == ParameterType::text;
    type.words.insert(type.words.end(), spec.choices.begin(), spec.choices.end());
  }
  type.truth = type.truth || name == "causal";
  return type;
}

std::optional<WhereValue> where_value(const InputPoint& input, const Case& grid_case,
                                      const std::string& name) {
  if (name == "backend") return grid_case.backend->name();
  if (name == "source") return input.source->name();
  if (name == "label") return input.label;
  if (name == "pass") return std::string(pass_name(grid_case.pass));
  if (starts_with(name, kOfInputs)) return input_value(input, name.substr(std::string(kOfInputs).size()));
  if (starts_with(name, kOfBackends))
    return parameter(grid_case.parameters, name.substr(std::string(kOfBackends).size()));
  if (auto value = input_value(input, name)) return value;
  if (name == kEngineParameter) return grid_case.backend->engine().name();
  return parameter(grid_case.parameters, name);
}

}  // namespace hyperattn
