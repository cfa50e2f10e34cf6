// `hyperattn list`: what a configuration can name, printed from the declarations that check it.
#include <fmt/core.h>

#include <cmath>
#include <iostream>

#include "algorithms/backend.h"
#include "algorithms/registry.h"
#include "core/text.h"
#include "experiments/cli/commands.h"
#include "experiments/config/registry.h"
#include "experiments/config/schema.h"
#include "experiments/config/sections.h"
#include "experiments/inputs/input_source.h"
#include "experiments/language_model/architectures/architecture.h"
#include "experiments/lm/model_registry.h"
#include "experiments/measures/measure.h"
#include "experiments/results/schema.h"

namespace hyperattn {
namespace {

const char* type_word(ParameterType type) {
  switch (type) {
    case ParameterType::integer:
      return "integer";
    case ParameterType::number:
      return "number";
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::text:
      return "text";
    case ParameterType::choice:
      return "";
    case ParameterType::integer_list:
      return "list of integers";
  }
  return "";
}

std::string bound(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(value)) : to_string(ParameterValue(value));
}

std::string range(const ParameterSpec& spec) {
  const bool low = std::isfinite(spec.minimum);
  const bool high = std::isfinite(spec.maximum);
  if (low && high) return fmt::format("{} to {}", bound(spec.minimum), bound(spec.maximum));
  if (low) return "at least " + bound(spec.minimum);
  if (high) return "at most " + bound(spec.maximum);
  return {};
}

/// "integer, a power of two, 1 to 1024, or auto; default 256".
std::string allowed(const ParameterSpec& spec) {
  std::vector<std::string> parts;
  if (*type_word(spec.type) != '\0') parts.emplace_back(type_word(spec.type));
  if (!spec.unit.empty()) parts.push_back("in " + spec.unit);
  if (spec.power_of_two) parts.emplace_back("a power of two");
  if (std::string text = range(spec); !text.empty()) parts.push_back(text);
  if (!spec.choices.empty())
    parts.push_back((spec.type == ParameterType::choice ? "" : "or ") + join(spec.choices, " | "));
  if (spec.allow_infinity) parts.emplace_back("or .inf");
  std::string text = join(parts, ", ");
  if (spec.default_value) {
    const std::string others = other_defaults_text(spec);
    return fmt::format("{}; default {}{}", text, to_string(*spec.default_value),
                       others.empty() ? "" : ", " + others);
  }
  return text + (spec.optional ? "; optional" : "; required");
}

void print_parameters(const std::vector<ParameterSpec>& specs) {
  for (const ParameterSpec& spec : specs) {
    std::cout << "    " << spec.name << " (" << allowed(spec) << ")\n";
    std::cout << "        " << spec.meaning << "\n";
    for (size_t i = 0; i < spec.choice_meanings.size(); ++i)
      std::cout << "          " << spec.choices[i] << ": " << spec.choice_meanings[i] << "\n";
    if (const std::string only = effect_text(spec, specs); !only.empty())
      std::cout << "        has effect only with " << only << "\n";
  }
}

std::string abilities(const Backend& backend) {
  std::vector<std::string> words = {"causal"};
  const Capabilities can = backend.method().capabilities();
  if (backend.no_gradient(default_parameters(backend.parameters())).empty()) words.emplace_back("backward");
  if (can.mask) words.emplace_back("mask of the user's own");
  words.emplace_back("n_q != n_k");
  if (can.replay) words.emplace_back("replay");
  return join(words, ", ");
}

void list_backends() {
  std::cout << "backends\n";
  for (const Backend* backend : all_backends()) {
    std::cout << "  " << backend->name() << ": " << backend->meaning() << "\n";
    std::cout << "    can: " << abilities(*backend) << "\n";
    print_parameters(backend->parameters());
  }
  for (const Engine* engine : all_engines())
    if (const std::string missing = engine->available(); !missing.empty())
      std::cout << "  Not here: engine " << engine->name() << " " << missing << "\n";
}

void list_inputs() {
  std::cout << "inputs\n";
  for (const InputSource* source : all_input_sources()) {
    std::cout << "  " << source->name() << ": " << source->meaning() << "\n";
    print_parameters(source->parameters());
  }
  std::cout << "  every source also takes\n";
  print_parameters(problem_parameters());
}

void list_measures() {
  std::cout << "measures\n";
  for (const Measure* measure : all_measures()) {
    std::cout << "  " << measure->name() << ": " << measure->meaning() << "\n";
    print_parameters(measure->parameters());
    for (const FigureSpec& figure : measure->figures())
      std::cout << "    -> " << figure.name << ": " << figure.meaning
                << (figure.unit.empty() ? "" : ", in " + figure.unit) << "\n";
  }
}

/// What `hyperattn lm` takes: its inputs, and the backends without what it ignores.
void list_language_model() {
  const Registry& registry = model_registry();
  std::cout << "inputs\n";
  for (const InputSource* source : registry.sources) {
    std::cout << "  " << source->name() << ": " << source->meaning() << "\n";
    print_parameters(inputs_section().specs(registry, source->name()));
  }
  std::cout << "architectures of models\n  " << architecture_names() << "\n";
  std::cout << "backends\n";
  for (const Backend* backend : registry.backends) {
    std::cout << "  " << backend->name() << ": " << backend->meaning() << "\n";
    print_parameters(backends_section().specs(registry, backend->name()));
  }
}

/// The list in docs/results-format.md.
void list_columns() {
  for (const ColumnSpec& column : trial_columns()) std::cout << list_item(column) << "\n";
}

}  // namespace

int list_command(const std::string& what, bool schema) {
  if (schema) {
    const bool of_model = what == "lm";
    std::cout << (of_model ? config_json_schema("hyperattn lm experiment", model_registry())
                           : config_json_schema("hyperattn experiment"))
              << "\n";
    return 0;
  }
  if (what == "lm") list_language_model();
  if (what == "columns") list_columns();
  if (what.empty() || what == "backends") list_backends();
  if (what.empty() || what == "inputs") list_inputs();
  if (what.empty() || what == "measures") list_measures();
  return 0;
}

}  // namespace hyperattn
