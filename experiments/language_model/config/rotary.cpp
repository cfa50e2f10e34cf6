#include "experiments/language_model/config/rotary.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

using nlohmann::json;

// Keys of a kind beside those that every kind has.
struct KindKeys {
  const char* name;
  RotaryKind kind;
  std::set<std::string> keys;
};

const std::vector<KindKeys>& kinds() {
  static const std::vector<KindKeys> list = {
      {"default", RotaryKind::plain, {}},
      {"linear", RotaryKind::linear, {"factor"}},
      {"dynamic", RotaryKind::dynamic, {"factor"}},
      {"llama3",
       RotaryKind::llama3,
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}},
      {"yarn",
       RotaryKind::yarn,
       {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
        "mscale_all_dim", "truncate"}},
      {"longrope",
       RotaryKind::longrope,
       {"factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}}};
  return list;
}

std::string kind_names() {
  std::vector<std::string> names;
  for (const KindKeys& kind : kinds()) names.emplace_back(kind.name);
  return join(names);
}

const KindKeys& read_kind(const ConfigFields& rope, bool empty, const RotaryRules& rules) {
  if (rope.has("rope_type") && rope.has("type") && rope.value("rope_type") != rope.value("type"))
    rope.refuse("type", fmt::format("the same as 'rope_type' ({})", excerpt(rope.value("rope_type"))));
  const std::string key = rope.has("type") && !rope.has("rope_type") ? "type" : "rope_type";
  if (!rope.has(key) && !empty)
    rope.refuse(key, fmt::format("one of {} where there is a rope object", kind_names()));
  std::string name = rope.text(key, "default");
  if (rules.longrope_only && name == "su") name = "longrope";
  if (rules.longrope_only && name != "default" && name != "longrope")
    rope.refuse(key, "default or longrope for this architecture");
  for (const KindKeys& kind : kinds())
    if (name == kind.name) return kind;
  rope.refuse(key, "one of " + kind_names());
}

// A number that may stand in the rope object or beside it.
double number_of_two_places(const ConfigFields& rope, const std::string& inner, const ConfigFields& fields,
                            const std::string& outer, double fallback) {
  const std::optional<double> inside = rope.has(inner) ? std::optional(rope.positive(inner)) : std::nullopt;
  const std::optional<double> beside =
      fields.has(outer) ? std::optional(fields.positive(outer)) : std::nullopt;
  if (inside && beside && *inside != *beside)
    fields.refuse(outer, fmt::format("the same as '{}' in the rope object ({}), or absent", inner,
                                     excerpt(rope.value(inner))));
  return inside ? *inside : beside ? *beside : fallback;
}

int64_t turned_width(double share, const RotaryRules& rules, const std::string& name) {
  const std::string begin = fmt::format("{}: '{}' must be ", name, rules.partial_key);
  const std::string end = ", but is " + json_line(share);
  if (share != 1 && !rules.partial)
    fail_input(fmt::format("{}1 or absent, since this architecture turns whole heads{}", begin, end));
  const auto dim = static_cast<int64_t>(static_cast<double>(rules.head_dim) * share);
  if (share > 1 || dim < 1)
    fail_input(fmt::format("{}at most 1, and such that of a head of {} numbers one at least turns{}", begin,
                           rules.head_dim, end));
  const bool fits = dim % 2 == 0 || (rules.odd && dim < rules.head_dim);
  if (!fits)
    fail_input(
        fmt::format("{}: rotary positions turn pairs, but {} numbers of a head of {} would turn, which is "
                    "odd ('head_dim' must be even, by default it is 'hidden_size' / heads)",
                    name, dim, rules.head_dim));
  return dim;
}

double magnitude_scale(double factor, double strength) {
  return factor <= 1 ? 1 : 0.1 * strength * std::log(factor) + 1;
}

void read_yarn(const ConfigFields& rope, RotaryConfig& config) {
  const double strength = rope.number("mscale", 0);
  const double strength_all = rope.number("mscale_all_dim", 0);
  const double inferred =
      strength != 0 && strength_all != 0
          ? magnitude_scale(config.factor, strength) / magnitude_scale(config.factor, strength_all)
          : magnitude_scale(config.factor, 1);
  config.attention_factor = rope.number("attention_factor", inferred);
  const double fast = rope.number("beta_fast", 0);
  const double slow = rope.number("beta_slow", 0);
  if (fast != 0) config.beta_fast = fast;  // 0 stands for the default
  if (slow != 0) config.beta_slow = slow;
  if (config.beta_fast <= 0) rope.refuse("beta_fast", "a positive number");
  if (config.beta_slow <= 0) rope.refuse("beta_slow", "a positive number");
  config.truncate = rope.flag("truncate", true);
  if (config.dim % 2 != 0) rope.refuse("rope_type", "another than yarn where an odd part of a head turns");
  if (config.rope_theta == 1) rope.refuse("rope_theta", "another number than 1 with yarn");
}

void read_longrope(const ConfigFields& rope, RotaryConfig& config) {
  config.short_factor = rope.positive_numbers("short_factor");
  config.long_factor = rope.positive_numbers("long_factor");
  const auto pairs = static_cast<size_t>(config.pairs());
  for (const char* key : {"short_factor", "long_factor"}) {
    const auto& list = std::string(key) == "short_factor" ? config.short_factor : config.long_factor;
    if (list.size() != pairs) rope.refuse(key, fmt::format("a list of {} numbers", pairs));
  }
  const double original = config.original_max_position_embeddings;
  if (config.factor > 1 && original <= 1)
    rope.refuse("original_max_position_embeddings", "larger than 1 with longrope");
  const double inferred =
      config.factor <= 1 ? 1 : std::sqrt(1 + std::log(config.factor) / std::log(original));
  config.attention_factor = rope.number("attention_factor", inferred);
}

void read_llama3(const ConfigFields& rope, RotaryConfig& config) {
  config.low_freq_factor = rope.positive("low_freq_factor");
  config.high_freq_factor = rope.positive("high_freq_factor");
  if (config.low_freq_factor == config.high_freq_factor)
    rope.refuse("high_freq_factor", "another number than 'low_freq_factor'");
}

// Longrope takes the ratio of the two lengths where it has no factor, yarn where the factor is null.
double read_factor(const ConfigFields& rope, const RotaryConfig& config, bool null_allowed) {
  if (rope.has("factor") || !null_allowed) return rope.positive("factor");
  return config.max_position_embeddings / config.original_max_position_embeddings;
}

void read_scaling(const ConfigFields& rope, bool factor_is_null, RotaryConfig& config) {
  if (config.kind == RotaryKind::plain) return;
  const bool ratio =
      config.kind == RotaryKind::longrope || (config.kind == RotaryKind::yarn && factor_is_null);
  config.factor = read_factor(rope, config, ratio);
  if (config.kind == RotaryKind::dynamic && config.dim <= 2)
    rope.refuse("rope_type", "another than dynamic where only one pair turns");
  if (config.kind == RotaryKind::llama3) read_llama3(rope, config);
  if (config.kind == RotaryKind::yarn) read_yarn(rope, config);
  if (config.kind == RotaryKind::longrope) read_longrope(rope, config);
}

[[noreturn]] void fail_value(const std::string& name, const std::string& key, const json& value,
                             const std::string& why) {
  fail_input(fmt::format("{}: '{}' is {}{}", name, key, excerpt(value), why));
}

void refuse_other_keys(const json& object, const std::string& name, const KindKeys& kind) {
  std::set<std::string> allowed = {"rope_type", "type", "rope_theta", "partial_rotary_factor"};
  allowed.insert(kind.keys.begin(), kind.keys.end());
  const std::string why = fmt::format(
      ", but rotary positions of the type \"{}\" have no such key; remove it if it changes nothing",
      kind.name);
  for (const auto& [key, value] : object.items())
    if (allowed.count(key) == 0 && !value.is_null()) fail_value(name, key, value, why);
}

// rope_parameters is the newer name of rope_scaling.
const json& rope_object(const ConfigFields& fields) {
  static const json nothing = json::object();
  const json& newer = fields.value("rope_parameters");
  const json& older = fields.value("rope_scaling");
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (fields.has(key) && !fields.value(key).is_object()) fields.refuse(key, "an object or null");
  const bool has_newer = newer.is_object() && !newer.empty();
  const bool has_older = older.is_object() && !older.empty();
  if (has_newer && has_older && newer != older)
    fields.refuse("rope_scaling", "the same as rope_parameters, or absent");
  return has_newer ? newer : has_older ? older : nothing;
}

// Everything from here on rounds to float32 where transformers does: a frequency that is off in its last bit
// turns distant positions by another angle.

float rounded_power(float base, float exponent) {
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

// The base grows with the sequence beyond the trained length.
float dynamic_theta(const RotaryConfig& config, int64_t n) {
  if (static_cast<double>(n) <= config.max_position_embeddings) return static_cast<float>(config.rope_theta);
  const auto factor = static_cast<float>(config.factor);
  const float stretched = factor * static_cast<float>(n) / static_cast<float>(config.max_position_embeddings);
  const auto growth = static_cast<double>(stretched - static_cast<float>(config.factor - 1));
  const auto dim = static_cast<double>(config.dim);
  return static_cast<float>(config.rope_theta) * static_cast<float>(std::pow(growth, dim / (dim - 2)));
}

// Long waves are stretched, short ones kept, and those between interpolated.
float llama3_frequency(const RotaryConfig& config, float frequency) {
  const auto original = static_cast<float>(config.original_max_position_embeddings);
  const auto low = static_cast<float>(config.low_freq_factor);
  const auto factor = static_cast<float>(config.factor);
  // A quotient whose numerator is a plain number is a product with the reciprocal.
  const float wavelength = static_cast<float>(2 * std::numbers::pi) * (1 / frequency);
  const double longest = config.original_max_position_embeddings / config.low_freq_factor;
  const double shortest = config.original_max_position_embeddings / config.high_freq_factor;
  if (wavelength > static_cast<float>(longest)) return frequency / factor;
  if (wavelength < static_cast<float>(shortest)) return frequency;
  const float smooth = (original * (1 / wavelength) - low) /
                       static_cast<float>(config.high_freq_factor - config.low_freq_factor);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

// The pair that makes `rotations` full turns over the original length, as a real number.
double yarn_pair(const RotaryConfig& config, double rotations) {
  return static_cast<double>(config.dim) *
         std::log(config.original_max_position_embeddings / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope_theta));
}

/// The pairs between which yarn goes over from kept to stretched.
struct YarnRange {
  double low = 0;
  double high = 0;
};

YarnRange yarn_range(const RotaryConfig& config) {
  YarnRange range{yarn_pair(config, config.beta_fast), yarn_pair(config, config.beta_slow)};
  if (config.truncate) range = {std::floor(range.low), std::ceil(range.high)};
  range = {std::max(range.low, 0.0), std::min(range.high, static_cast<double>(config.dim - 1))};
  if (range.low == range.high) range.high += 0.001;
  return range;
}

float yarn_frequency(const RotaryConfig& config, const YarnRange& range, int64_t pair, float power) {
  const float stretched = std::clamp(
      (static_cast<float>(pair) - static_cast<float>(range.low)) / static_cast<float>(range.high - range.low),
      0.0F, 1.0F);
  const float kept = 1 - stretched;
  return 1 / (static_cast<float>(config.factor) * power) * (1 - kept) + 1 / power * kept;
}

}  // namespace

RotaryConfig read_rope_object(const json& object, const ConfigFields& fields, const RotaryRules& rules) {
  const ConfigFields rope(object, fields.name() + ": rotary positions");
  const KindKeys& kind = read_kind(rope, object.empty(), rules);
  refuse_other_keys(object, rope.name(), kind);
  RotaryConfig config;
  config.kind = kind.kind;
  config.interleaved = rules.interleaved;
  config.max_position_embeddings = rules.max_position_embeddings;
  config.rope_theta = number_of_two_places(rope, "rope_theta", fields, rules.theta_key, rules.default_theta);
  const double share =
      number_of_two_places(rope, "partial_rotary_factor", fields, rules.partial_key, rules.default_partial);
  config.dim = turned_width(share, rules, fields.name());
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const double fixed = fields.has(kOriginal) ? 0 : rules.default_original_length;
  if (fixed > 0 && rope.has(kOriginal) && rope.positive(kOriginal) != fixed)
    fields.refuse(kOriginal, fmt::format("beside the rope object, and the same as in it ({})",
                                         excerpt(rope.value(kOriginal))));
  config.original_max_position_embeddings = number_of_two_places(
      rope, kOriginal, fields, kOriginal, fixed > 0 ? fixed : rules.max_position_embeddings);
  read_scaling(rope, object.contains("factor"), config);
  return config;
}

RotaryConfig read_rotary(const ConfigFields& fields, const RotaryRules& rules) {
  const json& object = rope_object(fields);
  for (const auto& [key, value] : object.items())
    if (value.is_object())
      fail_value(fields.name() + ": rotary positions", key, value,
                 ", but positions that differ by layer type are not known for this architecture");
  return read_rope_object(object, fields, rules);
}

std::vector<float> rotary_frequencies(const RotaryConfig& config, int64_t n) {
  const float theta =
      config.kind == RotaryKind::dynamic ? dynamic_theta(config, n) : static_cast<float>(config.rope_theta);
  const YarnRange range = config.kind == RotaryKind::yarn ? yarn_range(config) : YarnRange();
  const bool is_long = static_cast<double>(n) > config.original_max_position_embeddings;
  const std::vector<double>& factors = is_long ? config.long_factor : config.short_factor;
  std::vector<float> frequencies;
  for (int64_t j = 0; j < config.pairs(); ++j) {
    const float power = rounded_power(theta, static_cast<float>(2 * j) / static_cast<float>(config.dim));
    float frequency = 1 / power;
    if (config.kind == RotaryKind::linear) frequency /= static_cast<float>(config.factor);
    if (config.kind == RotaryKind::llama3) frequency = llama3_frequency(config, frequency);
    if (config.kind == RotaryKind::yarn) frequency = yarn_frequency(config, range, j, power);
    if (config.kind == RotaryKind::longrope)
      frequency = 1 / (static_cast<float>(factors[static_cast<size_t>(j)]) * power);
    frequencies.push_back(frequency);
  }
  return frequencies;
}

}  // namespace hyperattn
