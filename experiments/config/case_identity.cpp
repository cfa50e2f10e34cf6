#include "experiments/config/case_identity.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "algorithms/backend.h"
#include "experiments/config/grid.h"
#include "experiments/config/values.h"
#include "experiments/files/json_file.h"
#include "experiments/inputs/input_source.h"

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

using Names = std::set<std::string>;

/// The parameters that sources and backends had in version 0.1. They are part of the identity at any value;
/// those that were declared since only where they differ from their default, so that the cases of existing
/// files keep their names. This list is complete: nothing is ever added to it.
const Names& first_parameters(const std::string& owner) {
  static const Names of_mask = {"mask",      "bucket_count", "block_size",   "bucket_order",
                                "buckets",   "centre_keys",  "query_blocks", "blocks",
                                "mask_path", "band_width",   "min_seq_len"};
  static const Names of_shape = {"seq_len", "key_len", "head_dim", "value_dim", "heads", "batch"};
  const auto with = [](Names names, const Names& more) {
    names.insert(more.begin(), more.end());
    return names;
  };
  static const std::map<std::string, Names> all = {
      {"lsh", of_mask},
      {"hyper", with(of_mask, {"sample_size", "residual", "column_share", "sampling", "collisions",
                               "estimator", "approx_kappa", "approx_epsilon", "clip_constant"})},
      {"gaussian", with(of_shape, {"spectrum"})},
      {"clustered", with(of_shape, {"clusters", "cluster_score", "cluster_spread"})},
      {"conditioned", with(of_shape, {"condition_number", "construction", "scale"})},
      {"file", {"path", "seq_len", "query_rows", "key_rows"}},
      {"language_model",
       {"model", "text", "ids", "seq_len", "layers", "heads", "paired", "query_rows", "key_rows", "windows",
        "replace", "replaced"}},
  };
  static const Names none;
  const auto found = all.find(owner);
  return found == all.end() ? none : found->second;
}

/// The parameters of one source or backend that the identity depends on.
Json parameters_json(const std::string& owner, const std::vector<ParameterSpec>& specs,
                     const Parameters& parameters) {
  const Names& always = first_parameters(owner);
  Json json = Json::object();
  for (const auto& [name, value] : parameters.all()) {
    const ParameterSpec* spec = find_spec(specs, name);
    const bool is_default = spec != nullptr && is_at_default(*spec, parameters);
    if (always.count(name) != 0 || !is_default) json[name] = value_json(value);
  }
  return json;
}

Json input_json(uint64_t seed, const InputPoint& input) {
  Json json;
  json["schema"] = kResultsSchema;
  json["seed"] = seed;
  json["source"] = input.source->name();
  json["inputs"] = parameters_json(input.source->name(), input.source->parameters(), input.parameters);
  json["causal"] = input.causal;
  json["scale"] = input.scale ? number_json(*input.scale) : Json(nullptr);
  if (input.label_tells_apart) json["label"] = input.label;
  return json;
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
  return json_line(input_json(seed, input));
}

std::string case_identity(uint64_t seed, const InputPoint& input, const Case& grid_case) {
  Json json = input_json(seed, input);
  json["backend"] = grid_case.backend->name();
  const Backend& backend = *grid_case.backend;
  json["parameters"] = parameters_json(backend.name(), backend.parameters(), grid_case.parameters);
  json["pass"] = pass_name(grid_case.pass);
  return json_line(json);
}

}  // namespace hyperattn
