// What is declared in C++ (methods, engines, settings, figures), as Python's values; and settings from there.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "algorithms/attention.h"
#include "core/parameters.h"

namespace hyperattn::python {

/// A Python value (bool, integer, number, text, list of integers, NumPy's scalars) for each name.
/// Error(usage) names the setting whose value is of no such kind.
[[nodiscard]] Settings settings_from(const pybind11::dict& values);

[[nodiscard]] pybind11::object value_of(const ParameterValue& value);

// Tables: a list of dicts with the same keys.
[[nodiscard]] pybind11::list table_of_methods();
[[nodiscard]] pybind11::list table_of_engines();
[[nodiscard]] pybind11::list table_of_figures();
[[nodiscard]] pybind11::list table_of_settings(const std::vector<ParameterSpec>& specs);

}  // namespace hyperattn::python
