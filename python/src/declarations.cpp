#include "declarations.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "algorithms/registry.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/measures/measure.h"

namespace py = pybind11;

namespace hyperattn::python {
namespace {

int64_t integer_from(const std::string& name, py::handle value) {
  int overflow = 0;
  const long long integer = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0)
    fail_usage("setting '" + name + "' is " + std::string(py::str(value)) +
               ", which no 64-bit integer holds");
  return integer;
}

ParameterValue value_from(const std::string& name, py::handle given) {
  py::object value = py::reinterpret_borrow<py::object>(given);
  if (py::hasattr(value, "tolist")) value = value.attr("tolist")();  // NumPy's
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::int_>(value)) return integer_from(name, value);
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
    IntegerList integers;
    bool all = true;
    for (const py::handle item : value) {
      all = all && py::isinstance<py::int_>(item) && !py::isinstance<py::bool_>(item);
      if (all) integers.push_back(integer_from(name, item));
    }
    if (all) return integers;
  }
  fail_usage("setting '" + name +
             "' must be an integer, a number, True or False, text or a list of integers, but is " +
             std::string(py::repr(given)));
}

/// "integer", "integer list".
std::string type_name(const ParameterSpec& spec) {
  std::string words = parameter_type_word(spec.type);
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

/// "1 to 32", "a power of two from 1", "sort_lsh | none": what a value may be besides its type.
std::string allowed_text(const ParameterSpec& spec) {
  const std::string choices = join(spec.choices, " | ");
  if (spec.type == ParameterType::choice) return choices;
  std::vector<std::string> range;
  if (spec.power_of_two) range.emplace_back("a power of two");
  const auto shown = [&](double limit) {
    return std::abs(limit) < 1e15 && limit == std::floor(limit) ? to_string(static_cast<int64_t>(limit))
                                                                : to_string(limit);
  };
  const bool is_number = spec.type == ParameterType::integer || spec.type == ParameterType::number;
  if (is_number && std::isfinite(spec.minimum)) range.push_back("at least " + shown(spec.minimum));
  if (is_number && std::isfinite(spec.maximum)) range.push_back("at most " + shown(spec.maximum));
  if (!choices.empty()) range.push_back("or " + choices);
  return join(range);
}

}  // namespace

Settings settings_from(const py::dict& values) {
  Settings settings;
  for (const auto& [name, value] : values) {
    const auto key = name.cast<std::string>();
    settings.emplace(key, value_from(key, value));
  }
  return settings;
}

py::object value_of(const ParameterValue& value) {
  return std::visit([](const auto& held) -> py::object { return py::cast(held); }, value);
}

py::list table_of_methods() {
  py::list rows;
  for (const Backend* backend : all_backends()) {
    py::dict row;
    row["method"] = backend->name();
    row["meaning"] = backend->meaning();
    row["engine"] = backend->engine().name();
    row["gradient"] = backend->no_gradient(default_parameters(backend->parameters())).empty();
    row["approximate"] = backend->method().capabilities().approximate;
    rows.append(row);
  }
  return rows;
}

py::list table_of_engines() {
  py::list rows;
  for (const Engine* engine : all_engines()) {
    const std::string missing = engine->available();
    py::dict row;
    row["engine"] = engine->name();
    row["meaning"] = engine->meaning();
    row["available"] = missing.empty();
    row["why_not"] = missing;
    rows.append(row);
  }
  return rows;
}

py::list table_of_figures() {
  py::list rows;
  for (const Measure* measure : all_measures())
    for (const FigureSpec& figure : measure->figures()) {
      py::dict row;
      row["figure"] = figure.name;
      row["measure"] = measure->name();
      row["meaning"] = figure.meaning;
      row["unit"] = figure.unit;
      row["headline"] = figure.is_headline;
      row["error"] = figure.is_error;
      rows.append(row);
    }
  return rows;
}

py::list table_of_settings(const std::vector<ParameterSpec>& specs) {
  py::list rows;
  for (const ParameterSpec& spec : specs) {
    py::dict row;
    row["setting"] = spec.name;
    row["type"] = type_name(spec);
    row["default"] = spec.default_value ? value_of(*spec.default_value) : py::none();
    row["allowed"] = allowed_text(spec);
    row["unit"] = spec.unit;
    row["meaning"] = spec.meaning;
    row["effect_only_with"] = effect_text(spec, specs);
    rows.append(row);
  }
  return rows;
}

}  // namespace hyperattn::python
