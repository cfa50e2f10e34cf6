// From YAML to typed values: one scalar for one declared parameter, and the lists and generators that an axis
// of the sweep is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/problems.h"
#include "experiments/config/yaml_document.h"

namespace hyperattn {

/// More values of one axis than this are refused before they are made.
inline constexpr int64_t kMaximumAxisValues = 10'000;

/// Empty unless the scalar is one plain whole number (base 10, without fraction or exponent) of 64 bits.
[[nodiscard]] std::optional<int64_t> to_integer(const YamlNode& node);
/// Empty unless the scalar is one plain number (`.inf` and `.nan` included).
[[nodiscard]] std::optional<double> to_number(const YamlNode& node);

/// The value of one parameter, checked against its declaration. What is wrong becomes a problem that begins
/// with `path`, and the result is empty.
[[nodiscard]] std::optional<ParameterValue> read_value(const YamlNode& node, const ParameterSpec& spec,
                                                       const std::string& path, Problems& problems);

/// A seed takes all 64 bits, more than a parameter holds.
[[nodiscard]] uint64_t read_seed(const YamlNode& node, Problems& problems);

/// The values of one axis: a scalar, a list, or a map with one generator (range, linspace, logspace, pow2).
/// Each is checked against `spec`; generators round to whole numbers for an integer parameter. Empty after a
/// problem.
[[nodiscard]] std::vector<ParameterValue> read_axis_values(const YamlNode& node, const ParameterSpec& spec,
                                                           const std::string& path, Problems& problems);

/// The same value in the one form that the declaration holds: a whole number as double for a `number`, so
/// that 1 and 1.0 are one point.
[[nodiscard]] ParameterValue normalised(const ParameterSpec& spec, const ParameterValue& value);

/// Whether `parameters` holds the default of the parameter that they give it, or no value of it.
[[nodiscard]] bool is_at_default(const ParameterSpec& spec, const Parameters& parameters);

[[nodiscard]] std::vector<std::string> spec_names(const std::vector<ParameterSpec>& specs);

}  // namespace hyperattn
