// The maps that stand for lists of numbers in a sweep:
//
//   range: [start, stop, step]      start, start + step, … up to stop, which is included when a step meets it
//   linspace: [first, last, count]  evenly spaced, both ends included
//   logspace: [first, last, count]  evenly spaced ratios, both ends (values, not exponents) included
//   pow2: [first, last]             every power of two from first to last (values, not exponents)
#pragma once

#include <string>
#include <vector>

#include "experiments/config/problems.h"
#include "experiments/config/yaml_document.h"

namespace hyperattn {

[[nodiscard]] const std::vector<std::string>& generator_names();

/// How many numbers a generator takes.
[[nodiscard]] size_t generator_argument_count(const std::string& name);

/// The numbers that the map stands for; empty after a problem (which begins with `path`).
[[nodiscard]] std::vector<double> generate_values(const YamlNode& map, const std::string& path,
                                                  Problems& problems);

}  // namespace hyperattn
