#include "experiments/results/declared.h"

#include <nlohmann/json.hpp>

#include "algorithms/backend.h"
#include "experiments/config/registry.h"
#include "experiments/inputs/input_source.h"
#include "experiments/inputs/windows.h"
#include "experiments/measures/measure.h"
#include "experiments/results/schema.h"

namespace hyperattn {
namespace {

using Json = nlohmann::ordered_json;

void add_all(const std::string& of, const std::string& owner, const std::vector<ParameterSpec>& specs,
             std::vector<DeclaredParameter>& all) {
  for (const ParameterSpec& spec : specs) all.push_back({of, owner, spec});
}

std::vector<DeclaredParameter> make_case_parameters() {
  std::vector<DeclaredParameter> all;
  add_all("problem", "", problem_parameters(), all);
  for (const InputSource* source : default_registry().sources)
    add_all("inputs", source->name(), source->parameters(), all);
  add_all("inputs", windows_source().name(), windows_source().parameters(), all);
  for (const Backend* backend : default_registry().backends)
    add_all("backends", backend->name(), backend->parameters(), all);
  return all;
}

std::vector<DeclaredParameter> make_run_settings() {
  std::vector<DeclaredParameter> all;
  std::vector<ParameterSpec> timing = timing_parameters();
  std::erase_if(timing,
                [](const ParameterSpec& spec) { return spec.name == "pass"; });  // it tells cases apart
  add_all("timing", "", timing, all);
  for (const Measure* measure : all_measures())
    add_all("measures", measure->name(), measure->parameters(), all);
  return all;
}

const char* kind_word(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::integer:
      return "integer";
    case ColumnKind::number:
      return "number";
    case ColumnKind::text:
      return "text";
    case ColumnKind::seed:
      return "seed";
  }
  return "";
}

const char* role_word(ColumnRole role) {
  switch (role) {
    case ColumnRole::identity:
      return "identity";
    case ColumnRole::parameter:
      return "parameter";
    case ColumnRole::setting:
      return "setting";
    case ColumnRole::outcome:
      return "outcome";
    case ColumnRole::figure:
      return "figure";
  }
  return "";
}

/// Infinity has no number in JSON; YAML's word stands for it.
Json value_json(const ParameterValue& value) {
  const auto* number = std::get_if<double>(&value);
  if (number != nullptr && !std::isfinite(*number)) return to_string(value);
  return std::visit([](const auto& v) { return Json(v); }, value);
}

/// A list of conditions that all have to hold, each a list of alternatives.
Json conditions_json(const ParameterSpec& spec) {
  Json conditions = Json::array();
  for (const EffectCondition& condition : spec.conditions) {
    Json alternatives = Json::array();
    for (const auto& alternative : condition.alternatives) {
      Json values = Json::array();
      for (const ParameterValue& value : alternative.values) values.push_back(value_json(value));
      alternatives.push_back(
          {{"parameter", alternative.parameter}, {alternative.excluded ? "other_than" : "one_of", values}});
    }
    conditions.push_back(alternatives);
  }
  return conditions;
}

Json parameter_json(const DeclaredParameter& declared) {
  const ParameterSpec& spec = declared.spec;
  Json json = {{"name", spec.name},
               {"of", declared.of},
               {"owner", declared.owner},
               {"column", column_of(spec)},
               {"type", parameter_type_word(spec.type)},
               {"meaning", spec.meaning},
               {"unit", spec.unit}};
  if (spec.default_value) json["default"] = value_json(*spec.default_value);
  for (const OtherDefault& other : spec.other_defaults)
    json["other_defaults"].push_back({{"parameter", other.parameter},
                                      {"with", value_json(other.with)},
                                      {"default", value_json(other.value)}});
  if (!spec.choices.empty()) json["choices"] = spec.choices;
  if (!spec.conditions.empty()) json["only_with"] = conditions_json(spec);
  return json;
}

Json column_json(const ColumnSpec& column) {
  Json json = {{"name", column.name},
               {"kind", kind_word(column.kind)},
               {"role", role_word(column.role)},
               {"meaning", column.meaning},
               {"unit", column.unit}};
  if (column.role != ColumnRole::figure && column.role != ColumnRole::outcome) return json;
  json["headline"] = column.is_headline;
  json["error"] = column.is_error;
  return json;
}

std::string make_declarations() {
  Json json = {{"format", 1},
               {"columns", Json::array()},
               {"parameters", Json::array()},
               {"backends", Json::array()},
               {"sources", Json::array()},
               {"measures", Json::array()}};
  for (const ColumnSpec& column : trial_columns()) json["columns"].push_back(column_json(column));
  for (const auto* parameters : {&case_parameters(), &run_settings()})
    for (const DeclaredParameter& declared : *parameters)
      json["parameters"].push_back(parameter_json(declared));
  for (const Backend* backend : default_registry().backends)
    json["backends"].push_back({{"name", backend->name()},
                                {"meaning", backend->meaning()},
                                {"approximate", backend->method().capabilities().approximate}});
  for (const InputSource* source : default_registry().sources)
    json["sources"].push_back({{"name", source->name()}, {"meaning", source->meaning()}});
  for (const Measure* measure : all_measures()) {
    Json figures = Json::array();
    for (const FigureSpec& figure : measure->figures()) figures.push_back(figure.name);
    json["measures"].push_back(
        {{"name", measure->name()}, {"meaning", measure->meaning()}, {"figures", figures}});
  }
  return json.dump(1);
}

}  // namespace

const std::vector<DeclaredParameter>& case_parameters() {
  static const std::vector<DeclaredParameter> all = make_case_parameters();
  return all;
}

const std::vector<DeclaredParameter>& run_settings() {
  static const std::vector<DeclaredParameter> all = make_run_settings();
  return all;
}

const std::string& column_of(const ParameterSpec& spec) {
  return spec.column.empty() ? spec.name : spec.column;
}

const std::string& declarations_json() {
  static const std::string text = make_declarations();
  return text;
}

}  // namespace hyperattn
