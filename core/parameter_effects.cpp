// When a parameter has an effect: the conditions of its declaration.
#include <algorithm>
#include <stdexcept>

#include "core/parameters.h"

namespace hyperattn {
namespace {

// Of whole numbers and others alike: 0 and 0.0 are one value.
bool same_value(const ParameterValue& a, const ParameterValue& b) {
  const auto number = [](const ParameterValue& value) -> std::optional<double> {
    if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
    if (const auto* real = std::get_if<double>(&value)) return *real;
    return {};
  };
  return number(a) && number(b) ? *number(a) == *number(b) : a == b;
}

// "mask: sort_lsh, band or file", "sample_size other than 0".
std::string alternative_text(const EffectCondition::Alternative& alternative) {
  std::string words;
  for (size_t i = 0; i < alternative.values.size(); ++i) {
    const bool is_last = i + 1 == alternative.values.size();
    words += (i == 0 ? "" : is_last ? " or " : ", ") + to_string(alternative.values[i]);
  }
  return alternative.parameter + (alternative.excluded ? " other than " : ": ") + words;
}

// Without the alternatives that rest on undeclared parameters, where there are others: methods without a
// residual share the declarations of masks with those that have one.
std::string condition_text(const EffectCondition& condition, const std::vector<ParameterSpec>& specs) {
  std::string declared;
  std::string all;
  for (const auto& alternative : condition.alternatives) {
    const std::string text = alternative_text(alternative);
    all += (all.empty() ? "" : ", or ") + text;
    if (find_spec(specs, alternative.parameter) != nullptr)
      declared += (declared.empty() ? "" : ", or ") + text;
  }
  return declared.empty() ? all : declared;
}

// Declarations that lead in a circle are a broken invariant.
constexpr int kDeepestCondition = 16;

std::string why_no_effect_at(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs,
                             const Parameters& values, int depth);

// Why the alternative is not met, to follow the words of the condition; nothing if it is.
std::optional<std::string> why_not_met(const EffectCondition::Alternative& alternative,
                                       const std::vector<ParameterSpec>& specs, const Parameters& values,
                                       int depth) {
  const std::string& name = alternative.parameter;
  const ParameterValue& value = values.all().at(name);
  if (!admits(alternative, value)) return ", but " + name + " is " + to_string(value);
  const ParameterSpec* other = find_spec(specs, name);
  if (other == nullptr) return {};
  const std::string why = why_no_effect_at(*other, specs, values, depth + 1);
  if (why.empty()) return {};
  return ", and " + name + " " + why;
}

std::string why_no_effect_at(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs,
                             const Parameters& values, int depth) {
  if (depth > kDeepestCondition)
    throw std::logic_error("the conditions of parameter '" + spec.name + "' lead in a circle");
  for (const EffectCondition& condition : spec.conditions) {
    std::string first;  // why the first alternative is not met, which is the usual one
    bool met = true;
    for (const auto& alternative : condition.alternatives) {
      if (!values.has(alternative.parameter)) continue;
      const std::optional<std::string> why = why_not_met(alternative, specs, values, depth);
      met = !why;
      if (met) break;
      if (first.empty()) first = *why;
    }
    if (!met) return "has effect only with " + condition_text(condition, specs) + first;
  }
  return {};
}

}  // namespace

bool admits(const EffectCondition::Alternative& alternative, const ParameterValue& value) {
  const bool listed = std::any_of(alternative.values.begin(), alternative.values.end(),
                                  [&](const ParameterValue& each) { return same_value(each, value); });
  return listed != alternative.excluded;
}

std::string why_no_effect(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs,
                          const Parameters& values) {
  return why_no_effect_at(spec, specs, values, 0);
}

std::string effect_text(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs) {
  std::string text;
  for (const EffectCondition& condition : spec.conditions)
    text += (text.empty() ? "" : " and ") + condition_text(condition, specs);
  return text;
}

}  // namespace hyperattn
