#include "experiments/config/schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "experiments/config/generators.h"
#include "experiments/config/sections.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

using Json = nlohmann::ordered_json;

Json default_json(const ParameterValue& value) {
  const auto* number = std::get_if<double>(&value);
  if (number != nullptr && !std::isfinite(*number)) return to_string(value);
  return std::visit([](const auto& v) { return Json(v); }, value);
}

void add_range(const ParameterSpec& spec, Json& json) {
  if (std::isfinite(spec.minimum)) json["minimum"] = spec.minimum;
  if (std::isfinite(spec.maximum)) json["maximum"] = spec.maximum;
}

/// Every power of two that a parameter can be: JSON Schema has no such rule of its own.
Json powers_of_two(const ParameterSpec& spec) {
  Json powers = Json::array();
  for (int exponent = 0; exponent < 62; ++exponent) {
    const int64_t power = int64_t{1} << exponent;
    if (check_parameter(spec, power).empty()) powers.push_back(power);
  }
  return powers;
}

Json numeric_schema(const ParameterSpec& spec) {
  Json number;
  if (spec.power_of_two) {
    number["enum"] = powers_of_two(spec);
  } else {
    number["type"] = spec.type == ParameterType::integer ? "integer" : "number";
    add_range(spec, number);
  }
  // A JSON Schema's number may be infinite where the validator reads YAML; where it reads JSON there is none.
  Json words = Json::array();
  for (const std::string& word : spec.choices) words.push_back(word);
  if (spec.allow_infinity) words.push_back(".inf");
  if (words.empty()) return number;
  return {{"anyOf", Json::array({number, {{"enum", words}}})}};
}

/// What one value of the parameter may be.
Json value_schema(const ParameterSpec& spec) {
  switch (spec.type) {
    case ParameterType::integer:
    case ParameterType::number:
      return numeric_schema(spec);
    case ParameterType::boolean:
      return {{"type", "boolean"}};
    case ParameterType::choice:
      return {{"enum", spec.choices}};
    case ParameterType::text:
      return {{"type", "string"}};
    case ParameterType::integer_list: {
      Json item = {{"type", "integer"}};
      add_range(spec, item);
      return {{"type", "array"}, {"items", item}};
    }
  }
  return {};
}

std::string description(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs) {
  const std::string unit = spec.unit.empty() ? "" : ", in " + spec.unit;
  const std::string only = effect_text(spec, specs);
  const std::string others = other_defaults_text(spec);
  return spec.meaning + unit + (others.empty() ? "" : fmt::format("; default {}", others)) +
         (only.empty() ? "" : fmt::format(" (has effect only with {})", only));
}

Json property(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs) {
  Json json = value_schema(spec);
  if (spec.optional) json = {{"anyOf", Json::array({json, {{"type", "null"}}})}};
  json["description"] = description(spec, specs);
  if (spec.default_value) json["default"] = default_json(*spec.default_value);
  return json;
}

Json text_property(const std::string& description) {
  return {{"type", "string"}, {"description", description}};
}

/// A map with one fixed name and the parameters that go with it.
Json entry_schema(const Section& section, const std::string& name, const Registry& registry) {
  Json properties;
  properties[section.name_key] = {{"const", name}};
  for (const std::string& key : section.other_keys)
    properties[key] = text_property("names the entry in the results; its name unless given");
  const std::vector<ParameterSpec> specs = section.specs(registry, name);
  for (const ParameterSpec& spec : specs) properties[spec.name] = property(spec, specs);
  return {{"type", "object"},
          {"properties", properties},
          {"required", Json::array({section.name_key})},
          {"additionalProperties", false}};
}

/// One entry, in short form (its name) or as a map, or a list of such.
Json section_schema(const Section& section, const Registry& registry, const std::string& description) {
  const std::string against = registry.reason_against(section.key);
  if (!against.empty())
    return {{"description", section.key + " " + against}, {"type", "array"}, {"maxItems", 0}};
  Json names = Json::array();
  Json forms = Json::array();
  for (const std::string& name : section.names(registry)) {
    names.push_back(name);
    forms.push_back(entry_schema(section, name, registry));
  }
  forms.push_back({{"enum", names}});
  const Json one = {{"anyOf", forms}};
  const int fewest = section.key == measures_section().key ? 0 : 1;
  const Json list = {{"type", "array"}, {"items", one}, {"minItems", fewest}};
  return {{"description", description}, {"anyOf", Json::array({one, list})}};
}

Json numbers(size_t count) {
  return {{"type", "array"}, {"items", {{"type", "number"}}}, {"minItems", count}, {"maxItems", count}};
}

Json generator_schema() {
  Json forms = Json::array();
  for (const std::string& name : generator_names())
    forms.push_back({{"type", "object"},
                     {"properties", {{name, numbers(generator_argument_count(name))}}},
                     {"required", Json::array({name})},
                     {"additionalProperties", false}});
  return {{"anyOf", forms}};
}

bool takes_generators(const ParameterSpec& spec) {
  return spec.type == ParameterType::integer || spec.type == ParameterType::number;
}

Json axis_schema(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs) {
  const Json value = value_schema(spec);
  Json forms = Json::array({value, {{"type", "array"}, {"items", value}, {"minItems", 1}}});
  if (takes_generators(spec)) forms.push_back({{"$ref", "#/definitions/generator"}});
  return {{"description", description(spec, specs)}, {"anyOf", forms}};
}

/// All axes by name; where two owners declare one name differently, either form will do.
Json axes_properties(const Registry& registry) {
  std::map<std::string, Json> forms;
  for (const Section* section : {&inputs_section(), &backends_section()})
    for (const std::string& name : section->names(registry)) {
      const std::vector<ParameterSpec> specs = section->specs(registry, name);
      for (const ParameterSpec& spec : specs) {
        Json& known = forms[spec.name];
        const Json form = axis_schema(spec, specs);
        if (known.is_null()) known = Json::array();
        if (std::find(known.begin(), known.end(), form) == known.end()) known.push_back(form);
      }
    }
  Json properties = Json::object();
  for (const auto& [name, known] : forms)
    properties[name] = known.size() == 1 ? known.front() : Json{{"anyOf", known}};
  return properties;
}

Json sweep_schema(const Registry& registry) {
  Json axes = axes_properties(registry);
  const Json dotted = {
      {"^[A-Za-z_]+(\\[[0-9]+\\])?\\.[A-Za-z_]+$",
       {{"description",
         "an axis for some entries only: inputs.heads, hyper.block_size, backends[1].block_size"}}}};
  const Json zip = {{"type", "object"},
                    {"properties", axes},
                    {"patternProperties", dotted},
                    {"additionalProperties", false},
                    {"minProperties", 1}};
  axes["zip"] = {{"description", "axes of equal length that go in step"},
                 {"anyOf", Json::array({zip, {{"type", "array"}, {"items", zip}}})}};
  axes["where"] = {
      {"description", "predicates that a combination has to meet, such as 'sample_size <= key_len'"},
      {"anyOf", Json::array({{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}})}};
  return {{"description", "axes; their lists multiply"},
          {"type", Json::array({"object", "null"})},
          {"properties", axes},
          {"patternProperties", dotted},
          {"additionalProperties", false}};
}

Json map_schema(const std::vector<ParameterSpec>& specs, const std::string& description) {
  Json properties;
  for (const ParameterSpec& spec : specs) properties[spec.name] = property(spec, specs);
  return {{"description", description},
          {"type", "object"},
          {"properties", properties},
          {"additionalProperties", false}};
}

Json groups_schema() {
  return {{"description", "named assignments, chosen with --group; 'base' applies unless another is chosen"},
          {"type", Json::array({"object", "null"})},
          {"additionalProperties", {{"type", "object"}}}};
}

}  // namespace

std::string config_json_schema(const std::string& title, const Registry& registry) {
  Json properties;
  properties["name"] = text_property("names the experiment and, unless output is given, its results file");
  properties["seed"] = {{"type", "integer"},
                        {"minimum", 0},
                        {"maximum", std::numeric_limits<uint64_t>::max()},
                        {"default", 0},
                        {"description", "of all random numbers"}};
  for (const ParameterSpec& spec : run_parameters()) properties[spec.name] = property(spec, run_parameters());
  if (registry.reason_against("timing").empty())
    properties["timing"] = map_schema(timing_parameters(), "how a trial is timed");
  properties["inputs"] =
      section_schema(inputs_section(), registry, "where queries, keys and values come from");
  properties["sweep"] = sweep_schema(registry);
  properties["backends"] = section_schema(backends_section(), registry, "attention methods to compare");
  properties["measures"] = section_schema(measures_section(), registry, "what to measure");
  properties["output"] = text_property("path of the results file; results/<name>.h5 unless given");
  properties["groups"] = groups_schema();
  const Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                       {"title", title},
                       {"type", "object"},
                       {"definitions", {{"generator", generator_schema()}}},
                       {"properties", properties},
                       {"required", Json::array({"inputs", "backends"})},
                       {"additionalProperties", false}};
  return schema.dump(2) + "\n";
}

}  // namespace hyperattn
