#include "experiments/config/values.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/text.h"
#include "experiments/config/generators.h"

namespace hyperattn {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53: beyond it not every integer is a double

std::string type_text(const ParameterSpec& spec) {
  const std::string words = spec.choices.empty() ? "" : " or one of " + join(spec.choices);
  switch (spec.type) {
    case ParameterType::integer:
      return "a whole number" + words;
    case ParameterType::number:
      return "a number" + words;
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::text:
      return "text";
    case ParameterType::choice:
      return "one of " + join(spec.choices);
    case ParameterType::integer_list:
      return "a list of whole numbers, such as [0, 1024]";
  }
  return "";
}

std::optional<ParameterValue> to_integer_list(const YamlNode& node) {
  if (!node.is_list()) return {};
  IntegerList list;
  for (const YamlNode& item : node.items) {
    const std::optional<int64_t> integer = to_integer(item);
    if (!integer) return {};
    list.push_back(*integer);
  }
  return list;
}

std::optional<ParameterValue> to_boolean(const YamlNode& node) {
  for (const char* word : {"true", "True", "TRUE"})
    if (node.is_plain(word)) return true;
  for (const char* word : {"false", "False", "FALSE"})
    if (node.is_plain(word)) return false;
  return {};
}

template <class T>
std::optional<ParameterValue> value_or_word(const std::optional<T>& value, const YamlNode& node,
                                            const ParameterSpec& spec) {
  if (value) return ParameterValue(*value);
  const bool word = node.is_scalar() && !spec.choices.empty() && !to_number(node);
  return word ? std::optional<ParameterValue>(node.text) : std::nullopt;
}

/// The value in the type that the declaration asks for, whatever its range; empty if it is of another type.
std::optional<ParameterValue> to_value(const YamlNode& node, const ParameterSpec& spec) {
  switch (spec.type) {
    case ParameterType::integer:
      return value_or_word(to_integer(node), node, spec);
    case ParameterType::number:
      return value_or_word(to_number(node), node, spec);
    case ParameterType::boolean:
      return to_boolean(node);
    case ParameterType::integer_list:
      return to_integer_list(node);
    case ParameterType::text:
    case ParameterType::choice:
      return node.is_scalar() ? std::optional<ParameterValue>(node.text) : std::nullopt;
  }
  return {};
}

bool is_one_value(const YamlNode& node, const ParameterSpec& spec) {
  if (spec.type != ParameterType::integer_list) return node.is_scalar();
  return node.is_list() && (node.items.empty() || node.items.front().is_scalar());
}

std::string where_lists_go(const YamlNode& node, const ParameterSpec& spec) {
  const bool several = (node.is_list() || node.is_map()) && spec.type != ParameterType::integer_list;
  return several ? " (several values go into sweep)" : "";
}

std::vector<ParameterValue> read_generated(const YamlNode& node, const ParameterSpec& spec,
                                           const std::string& path, Problems& problems) {
  if (spec.type != ParameterType::integer && spec.type != ParameterType::number) {
    problems.add(node.origin,
                 fmt::format("{} must be a list, because only numbers can be generated and each value is {}",
                             path, type_text(spec)));
    return {};
  }
  std::vector<ParameterValue> values;
  for (double number : generate_values(node, path, problems)) {
    const bool round = spec.type == ParameterType::integer && std::abs(number) < kExactIntegers;
    ParameterValue value = number;
    if (round) value = static_cast<int64_t>(std::llround(number));
    const std::string wrong = check_parameter(spec, value);
    if (!wrong.empty()) {
      problems.add(node.origin, path + " " + wrong);
      return {};
    }
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

std::optional<int64_t> to_integer(const YamlNode& node) {
  if (!node.is_scalar() || node.quoted) return {};
  const std::string& text = node.text;
  const char* begin = text.data() + (text.size() > 1 && text[0] == '+' && text[1] != '-' ? 1 : 0);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::optional<double> to_number(const YamlNode& node) {
  if (!node.is_scalar() || node.quoted) return {};
  const std::string& text = node.text;
  const std::string unsigned_text =
      !text.empty() && (text[0] == '+' || text[0] == '-') ? text.substr(1) : text;
  const double sign = !text.empty() && text[0] == '-' ? -1 : 1;
  if (unsigned_text == ".inf" || unsigned_text == ".Inf" || unsigned_text == ".INF")
    return sign * std::numeric_limits<double>::infinity();
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return std::numeric_limits<double>::quiet_NaN();
  const bool digit_first =
      !unsigned_text.empty() &&
      (std::isdigit(static_cast<unsigned char>(unsigned_text[0])) != 0 || unsigned_text[0] == '.');
  if (!digit_first) return {};  // from_chars would take "inf" and "nan"
  double value = 0;
  const char* last = unsigned_text.data() + unsigned_text.size();
  const auto [end, error] = std::from_chars(unsigned_text.data(), last, value);
  if (error != std::errc() || end != last) return {};
  return sign * value;
}

std::optional<ParameterValue> read_value(const YamlNode& node, const ParameterSpec& spec,
                                         const std::string& path, Problems& problems) {
  const std::optional<ParameterValue> value = to_value(node, spec);
  if (!value) {
    problems.add(node.origin, fmt::format("{} must be {}, but is {}{}", path, type_text(spec), describe(node),
                                          where_lists_go(node, spec)));
    return {};
  }
  const std::string wrong = check_parameter(spec, *value);
  if (wrong.empty()) return normalised(spec, *value);
  problems.add(node.origin, path + " " + wrong);
  return {};
}

std::vector<ParameterValue> read_axis_values(const YamlNode& node, const ParameterSpec& spec,
                                             const std::string& path, Problems& problems) {
  std::vector<ParameterValue> values;
  if (node.is_map()) return read_generated(node, spec, path, problems);
  if (is_one_value(node, spec)) {
    if (const auto value = read_value(node, spec, path, problems)) values.push_back(*value);
    return values;
  }
  if (!node.is_list() || node.items.empty()) {
    problems.add(node.origin,
                 fmt::format("{} must be a list of values or a generator ({}), but is {}", path,
                             join(generator_names()), node.is_list() ? "an empty list" : describe(node)));
    return {};
  }
  if (node.items.size() > static_cast<size_t>(kMaximumAxisValues)) {
    problems.add(node.origin,
                 fmt::format("{} has {} values, more than {}", path, node.items.size(), kMaximumAxisValues));
    return {};
  }
  for (const YamlNode& item : node.items)
    if (const auto value = read_value(item, spec, path, problems)) values.push_back(*value);
  return values.size() == node.items.size() ? values : std::vector<ParameterValue>{};
}

uint64_t read_seed(const YamlNode& node, Problems& problems) {
  uint64_t seed = 0;
  const char* last = node.text.data() + node.text.size();
  const auto [end, error] = std::from_chars(node.text.data(), last, seed);
  if (!node.is_scalar() || node.quoted || error != std::errc() || end != last)
    problems.add(node.origin,
                 "seed must be a whole number from 0 to 18446744073709551615, but is " + describe(node));
  return seed;
}

ParameterValue normalised(const ParameterSpec& spec, const ParameterValue& value) {
  const auto* integer = std::get_if<int64_t>(&value);
  if (integer != nullptr && spec.type == ParameterType::number) return static_cast<double>(*integer);
  const auto* number = std::get_if<double>(&value);
  if (number != nullptr && spec.type == ParameterType::integer) return static_cast<int64_t>(*number);
  if (number != nullptr && *number == 0) return 0.0;  // -0.0 and 0.0 are one point
  return value;
}

bool is_at_default(const ParameterSpec& spec, const Parameters& parameters) {
  if (!parameters.has(spec.name)) return true;
  const std::optional<ParameterValue> value = default_of(spec, parameters);
  return value && normalised(spec, *value) == parameters.all().at(spec.name);
}

std::vector<std::string> spec_names(const std::vector<ParameterSpec>& specs) {
  std::vector<std::string> names;
  for (const ParameterSpec& spec : specs) names.push_back(spec.name);
  return names;
}

}  // namespace hyperattn
