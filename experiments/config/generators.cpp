#include "experiments/config/generators.h"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cmath>
#include <tuple>

#include "core/text.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53

struct Result {
  std::vector<double> values;
  std::string wrong;  ///< empty if the values are good
};

std::string print(double value, int digits) {
  std::array<char, 64> text{};
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::general, digits).ptr;
  return {text.data(), end};
}

// Sums of decimal steps as a person would write them: 0.3, not 0.30000000000000004.
double tidy(double value) {
  if (value == std::floor(value)) return value;
  const std::string text = print(value, 14);
  double result = value;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

std::string too_many(double count) {
  return fmt::format("gives {} values, more than {}", print(count, 6), kMaximumAxisValues);
}

Result range(const std::vector<double>& arguments) {
  const double start = arguments[0];
  const double stop = arguments[1];
  const double step = arguments[2];
  if (step == 0) return {{}, "needs a step that is not 0"};
  if ((stop - start) / step < 0) return {{}, "gives no value: its step leads away from its stop"};
  const double count = std::floor((stop - start) / step + 1e-9) + 1;
  if (!(count <= static_cast<double>(kMaximumAxisValues))) return {{}, too_many(count)};
  Result result;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    result.values.push_back(tidy(start + static_cast<double>(i) * step));
  return result;
}

std::string check_count(double count) {
  if (count < 1 || count != std::floor(count)) return "needs a whole count of at least 1 as third number";
  return count > static_cast<double>(kMaximumAxisValues) ? too_many(count) : "";
}

Result linspace(const std::vector<double>& arguments) {
  const auto [first, last, count] = std::tuple(arguments[0], arguments[1], arguments[2]);
  if (std::string wrong = check_count(count); !wrong.empty()) return {{}, wrong};
  Result result;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    result.values.push_back(
        tidy(i == 0 ? first : first + (last - first) * static_cast<double>(i) / (count - 1)));
  return result;
}

Result logspace(const std::vector<double>& arguments) {
  const auto [first, last, count] = std::tuple(arguments[0], arguments[1], arguments[2]);
  if (first <= 0 || last <= 0)
    return {{}, "needs two positive ends: they are values (logspace: [1, 1000, 4] gives 1, 10, 100, 1000)"};
  if (std::string wrong = check_count(count); !wrong.empty()) return {{}, wrong};
  Result result;
  const double ratio = std::log(last) - std::log(first);
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    result.values.push_back(
        tidy(i == 0 ? first : first * std::exp(ratio * static_cast<double>(i) / (count - 1))));
  return result;
}

bool is_power_of_two(double value) {
  int exponent = 0;
  return value >= 1 && std::frexp(value, &exponent) == 0.5;
}

Result pow2(const std::vector<double>& arguments) {
  const double first = arguments[0];
  const double last = arguments[1];
  if (!is_power_of_two(first) || !is_power_of_two(last) || first > last || last > kExactIntegers)
    return {
        {},
        "needs two powers of two in increasing order: they are values (pow2: [64, 256] gives 64, 128, 256)"};
  Result result;
  for (double value = first; value <= last; value *= 2) result.values.push_back(value);
  return result;
}

struct Generator {
  std::string name;
  std::vector<std::string> arguments;
  Result (*make)(const std::vector<double>&);
};

const std::vector<Generator>& generators() {
  static const std::vector<Generator> all = {
      {"range", {"start", "stop", "step"}, range},
      {"linspace", {"first", "last", "count"}, linspace},
      {"logspace", {"first", "last", "count"}, logspace},
      {"pow2", {"first", "last"}, pow2},
  };
  return all;
}

const Generator* find_generator(const std::string& name) {
  for (const Generator& generator : generators())
    if (generator.name == name) return &generator;
  return nullptr;
}

/// Empty unless the node is a list of as many finite numbers as the generator takes.
std::vector<double> read_arguments(const Generator& generator, const YamlNode& node) {
  if (!node.is_list() || node.items.size() != generator.arguments.size()) return {};
  std::vector<double> arguments;
  for (const YamlNode& item : node.items) {
    const std::optional<double> number = to_number(item);
    // Beyond 1e300 differences and ratios of the ends overflow.
    if (!number || !(std::abs(*number) < 1e300)) return {};
    arguments.push_back(*number);
  }
  return arguments;
}

}  // namespace

const std::vector<std::string>& generator_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Generator& generator : generators()) all.push_back(generator.name);
    return all;
  }();
  return names;
}

size_t generator_argument_count(const std::string& name) {
  const Generator* generator = find_generator(name);
  return generator == nullptr ? 0 : generator->arguments.size();
}

std::vector<double> generate_values(const YamlNode& map, const std::string& path, Problems& problems) {
  if (map.fields.size() != 1) {
    problems.add(map.origin, fmt::format("{} must be a list or one generator ({}), but is a map with {} keys",
                                         path, join(generator_names()), map.fields.size()));
    return {};
  }
  const YamlField& field = map.fields.front();
  const Generator* generator = find_generator(field.key);
  if (generator == nullptr) {
    problems.add_unknown(field.origin, "generator", field.key, path, generator_names());
    return {};
  }
  const std::vector<double> arguments = read_arguments(*generator, field.value);
  if (arguments.empty()) {
    problems.add(field.origin, fmt::format("{}.{} must be a list of {} finite numbers: [{}]", path, field.key,
                                           generator->arguments.size(), join(generator->arguments)));
    return {};
  }
  Result result = generator->make(arguments);
  if (!result.wrong.empty()) problems.add(field.origin, path + "." + field.key + " " + result.wrong);
  return result.values;
}

}  // namespace hyperattn
