#include "core/parameters.h"
#include "core/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace hyperattn {
namespace {

template <class T>
const T& get(const std::map<std::string, ParameterValue>& values, const std::string& name) {
  const auto found = values.find(name);
  if (found == values.end()) throw std::logic_error("parameter '" + name + "' was never resolved");
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) throw std::logic_error("parameter '" + name + "' holds another type than asked for");
  return *value;
}

std::string shortest(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

bool is_choice(const ParameterSpec& spec, const std::string& word) {
  return std::find(spec.choices.begin(), spec.choices.end(), word) != spec.choices.end();
}

// Whole limits without an exponent: "1000000" reads better than "1e+06".
std::string limit_text(double limit) {
  const bool whole = limit == std::floor(limit) && std::abs(limit) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(limit)) : shortest(limit);
}

std::string range_text(const ParameterSpec& spec) {
  const bool low = std::isfinite(spec.minimum);
  const bool high = std::isfinite(spec.maximum);
  if (low && high) return "between " + limit_text(spec.minimum) + " and " + limit_text(spec.maximum);
  if (low) return "at least " + limit_text(spec.minimum);
  return "at most " + limit_text(spec.maximum);
}

/// `shown`: the value as its type writes it.
std::string check_range(const ParameterSpec& spec, double value, const std::string& shown) {
  if (std::isnan(value)) return "must be a number, but is .nan";
  if (std::isinf(value) && !(spec.allow_infinity && value > 0)) return "must be finite, but is " + shown;
  if (value < spec.minimum || (value > spec.maximum && !std::isinf(value)))
    return "must be " + range_text(spec) + ", but is " + shown;
  return {};
}

std::string check_integer(const ParameterSpec& spec, int64_t value) {
  std::string problem = check_range(spec, static_cast<double>(value), std::to_string(value));
  if (problem.empty() && spec.power_of_two && (value <= 0 || (value & (value - 1)) != 0))
    problem = "must be a power of two, but is " + std::to_string(value);
  return problem;
}

const char* type_name(ParameterType type) {
  switch (type) {
    case ParameterType::integer:
      return "an integer";
    case ParameterType::number:
      return "a number";
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::text:
    case ParameterType::choice:
      return "text";
    case ParameterType::integer_list:
      return "a list of integers";
  }
  return "";
}

std::string check_text(const ParameterSpec& spec, const std::string& value) {
  if (spec.type == ParameterType::text || is_choice(spec, value)) return {};
  const std::string number =
      spec.type == ParameterType::choice ? "" : type_name(spec.type) + std::string(" or ");
  return "must be " + number + "one of " + join(spec.choices) + ", but is '" + value + "'";
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

ParameterSpec parameter(const std::string& name, ParameterType type, const std::string& meaning) {
  ParameterSpec spec;
  spec.name = name;
  spec.type = type;
  spec.meaning = meaning;
  return spec;
}

}  // namespace

ParameterSpec::ParameterSpec() = default;
ParameterSpec::ParameterSpec(const ParameterSpec&) = default;
ParameterSpec::ParameterSpec(ParameterSpec&&) noexcept = default;
ParameterSpec& ParameterSpec::operator=(const ParameterSpec&) = default;
ParameterSpec& ParameterSpec::operator=(ParameterSpec&&) noexcept = default;
ParameterSpec::~ParameterSpec() = default;

ParameterSpec ParameterSpec::by_default(ParameterValue value) const {
  ParameterSpec spec = *this;
  spec.default_value = std::move(value);
  return spec;
}

ParameterSpec ParameterSpec::at_least(double limit) const {
  ParameterSpec spec = *this;
  spec.minimum = limit;
  return spec;
}

ParameterSpec ParameterSpec::between(double least, double most) const {
  ParameterSpec spec = at_least(least);
  spec.maximum = most;
  return spec;
}

ParameterSpec ParameterSpec::or_word(const std::string& word) const {
  ParameterSpec spec = *this;
  spec.choices.push_back(word);
  return spec;
}

ParameterSpec ParameterSpec::or_infinity() const {
  ParameterSpec spec = *this;
  spec.allow_infinity = true;
  return spec;
}

ParameterSpec ParameterSpec::or_absent() const {
  ParameterSpec spec = *this;
  spec.optional = true;
  return spec;
}

ParameterSpec ParameterSpec::in_unit(const std::string& name_of_unit) const {
  ParameterSpec spec = *this;
  spec.unit = name_of_unit;
  return spec;
}

ParameterSpec ParameterSpec::in_column(const std::string& name_of_column) const {
  ParameterSpec spec = *this;
  spec.column = name_of_column;
  return spec;
}

ParameterSpec ParameterSpec::only_with(const std::string& parameter,
                                       std::vector<ParameterValue> values) const {
  ParameterSpec spec = *this;
  spec.conditions.push_back({{{parameter, std::move(values), false}}});
  return spec;
}

ParameterSpec ParameterSpec::not_with(const std::string& parameter,
                                      std::vector<ParameterValue> values) const {
  ParameterSpec spec = *this;
  spec.conditions.push_back({{{parameter, std::move(values), true}}});
  return spec;
}

ParameterSpec ParameterSpec::or_with(const std::string& parameter, std::vector<ParameterValue> values) const {
  ParameterSpec spec = *this;
  spec.conditions.back().alternatives.push_back({parameter, std::move(values), false});
  return spec;
}

ParameterSpec integer_parameter(const std::string& name, const std::string& meaning) {
  return parameter(name, ParameterType::integer, meaning);
}

ParameterSpec number_parameter(const std::string& name, const std::string& meaning) {
  return parameter(name, ParameterType::number, meaning);
}

ParameterSpec text_parameter(const std::string& name, const std::string& meaning) {
  return parameter(name, ParameterType::text, meaning);
}

ParameterSpec integer_list_parameter(const std::string& name, const std::string& meaning) {
  return parameter(name, ParameterType::integer_list, meaning);
}

ParameterSpec boolean_parameter(const std::string& name, const std::string& meaning) {
  return parameter(name, ParameterType::boolean, meaning).by_default(false);
}

ParameterSpec choice_parameter(const std::string& name, std::vector<std::string> choices,
                               const std::string& meaning) {
  ParameterSpec spec = parameter(name, ParameterType::choice, meaning).by_default(choices.front());
  spec.choices = std::move(choices);
  return spec;
}

int64_t Parameters::integer(const std::string& name) const {
  return get<int64_t>(values_, name);
}
double Parameters::number(const std::string& name) const {
  const auto found = values_.find(name);
  if (found != values_.end() && std::holds_alternative<int64_t>(found->second))
    return static_cast<double>(std::get<int64_t>(found->second));
  return get<double>(values_, name);
}
bool Parameters::boolean(const std::string& name) const {
  return get<bool>(values_, name);
}
const std::string& Parameters::text(const std::string& name) const {
  return get<std::string>(values_, name);
}
const IntegerList& Parameters::integers(const std::string& name) const {
  return get<IntegerList>(values_, name);
}
bool Parameters::is_text(const std::string& name) const {
  const auto found = values_.find(name);
  return found != values_.end() && std::holds_alternative<std::string>(found->second);
}

const char* parameter_type_word(ParameterType type) {
  switch (type) {
    case ParameterType::integer:
      return "integer";
    case ParameterType::number:
      return "number";
    case ParameterType::boolean:
      return "boolean";
    case ParameterType::text:
      return "text";
    case ParameterType::choice:
      return "choice";
    case ParameterType::integer_list:
      return "integer_list";
  }
  return "";
}

std::string to_string(const ParameterValue& value) {
  struct Printer {
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return shortest(v); }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(const IntegerList& v) const {
      return "[" + join_of(v, [](int64_t item) { return std::to_string(item); }) + "]";
    }
  };
  return std::visit(Printer{}, value);
}

std::string check_parameter(const ParameterSpec& spec, const ParameterValue& value) {
  std::string wrong_type = std::string("must be ") + type_name(spec.type) + ", but is " + to_string(value);
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    if (spec.type == ParameterType::integer) return check_integer(spec, *integer);
    return spec.type == ParameterType::number
               ? check_range(spec, static_cast<double>(*integer), std::to_string(*integer))
               : wrong_type;
  }
  if (const auto* number = std::get_if<double>(&value))
    return spec.type == ParameterType::number ? check_range(spec, *number, shortest(*number)) : wrong_type;
  if (const auto* text = std::get_if<std::string>(&value)) {
    const bool takes_words = spec.type == ParameterType::text || spec.type == ParameterType::choice ||
                             ((spec.type == ParameterType::number || spec.type == ParameterType::integer) &&
                              !spec.choices.empty());
    return takes_words ? check_text(spec, *text) : wrong_type;
  }
  if (std::holds_alternative<bool>(value)) return spec.type == ParameterType::boolean ? "" : wrong_type;
  if (spec.type != ParameterType::integer_list) return wrong_type;
  for (int64_t item : std::get<IntegerList>(value))
    if (std::string problem = check_range(spec, static_cast<double>(item), std::to_string(item));
        !problem.empty())
      return problem;
  return {};
}

const ParameterSpec* find_spec(const std::vector<ParameterSpec>& specs, const std::string& name) {
  for (const ParameterSpec& spec : specs)
    if (spec.name == name) return &spec;
  return nullptr;
}

std::optional<ParameterValue> default_of(const ParameterSpec& spec, const Parameters& others) {
  for (const OtherDefault& other : spec.other_defaults)
    if (others.has(other.parameter) && others.all().at(other.parameter) == other.with) return other.value;
  return spec.default_value;
}

Parameters default_parameters(const std::vector<ParameterSpec>& specs) {
  Parameters parameters = independent_defaults(specs);
  complete_defaults(specs, parameters);
  return parameters;
}

Parameters independent_defaults(const std::vector<ParameterSpec>& specs) {
  Parameters parameters;
  for (const ParameterSpec& spec : specs)
    if (spec.default_value && spec.other_defaults.empty()) parameters.set(spec.name, *spec.default_value);
  return parameters;
}

void complete_defaults(const std::vector<ParameterSpec>& specs, Parameters& parameters) {
  for (const ParameterSpec& spec : specs) {
    if (spec.other_defaults.empty() || parameters.has(spec.name)) continue;
    if (const auto value = default_of(spec, parameters)) parameters.set(spec.name, *value);
  }
}

std::string other_defaults_text(const ParameterSpec& spec) {
  return join_of(spec.other_defaults, [](const OtherDefault& other) {
    return to_string(other.value) + " with " + other.parameter + ": " + to_string(other.with);
  });
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace hyperattn
