#include "experiments/config/case_identity.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "algorithms/backend.h"
#include "experiments/results/schema.h"

namespace hyperattn {
namespace {

using Json = nlohmann::json;

// JSON has no infinity; YAML's word stands for it.
Json number_json(double value) {
  return std::isfinite(value) ? Json(value) : Json(to_string(ParameterValue(value)));
}

Json value_json(const ParameterValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return number_json(*number);
  return std::visit([](const auto& v) { return Json(v); }, value);
}

Json parameters_json(const Parameters& parameters) {
  Json json = Json::object();
  for (const auto& [name, value] : parameters.all()) json[name] = value_json(value);
  return json;
}

Json input_json(uint64_t seed, const InputPoint& input) {
  Json json;
  json["schema"] = kResultsSchema;
  json["seed"] = seed;
  json["source"] = input.source->name();
  json["inputs"] = parameters_json(input.parameters);
  json["causal"] = input.causal;
  json["scale"] = input.scale ? number_json(*input.scale) : Json(nullptr);
  return json;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string hash_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3U;
  }
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(hash));
  return {digits.data(), 16};
}

std::string input_identity(uint64_t seed, const InputPoint& input) {
  return dump(input_json(seed, input));
}

std::string case_identity(uint64_t seed, const InputPoint& input, const Case& grid_case) {
  Json json = input_json(seed, input);
  json["backend"] = grid_case.backend->name();
  json["parameters"] = parameters_json(grid_case.parameters);
  json["pass"] = pass_name(grid_case.pass);
  return dump(json);
}

}  // namespace hyperattn
