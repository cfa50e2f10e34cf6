#include "experiments/config/registry.h"

#include "algorithms/backend.h"
#include "experiments/inputs/input_source.h"
#include "experiments/measures/measure.h"

namespace hyperattn {
namespace {

template <class Thing>
const Thing* find(const std::vector<const Thing*>& things, const std::string& name) {
  for (const Thing* thing : things)
    if (thing->name() == name) return thing;
  return nullptr;
}

ParameterSpec spec(const std::string& name, ParameterType type, ParameterValue default_value,
                   const std::string& meaning) {
  ParameterSpec result;
  result.name = name;
  result.type = type;
  result.default_value = std::move(default_value);
  result.meaning = meaning;
  return result;
}

ParameterSpec count(const std::string& name, int64_t default_value, double minimum, double maximum,
                    const std::string& meaning) {
  ParameterSpec result = spec(name, ParameterType::integer, default_value, meaning);
  result.minimum = minimum;
  result.maximum = maximum;
  return result;
}

std::vector<ParameterSpec> make_problem_parameters() {
  ParameterSpec scale;
  scale.name = "scale";
  scale.type = ParameterType::number;
  scale.optional = true;
  scale.meaning = "factor of every score; 1/sqrt(head_dim) unless given";
  return {spec("causal", ParameterType::boolean, false, "query row i sees keys 0 to i only"), scale};
}

std::vector<ParameterSpec> make_timing_parameters() {
  ParameterSpec repeats = count("repeats", 3, 1, 1e6, "timed calls of each trial; auto: until they agree");
  repeats.choices = {"auto"};
  ParameterSpec relative_error = spec("relative_error", ParameterType::number, 0.02,
                                      "repeats: auto stops when the median's relative error is at most this");
  relative_error.minimum = 1e-6;
  relative_error.maximum = 1;
  ParameterSpec pass = spec("pass", ParameterType::choice, std::string("forward"), "what is timed");
  pass.choices = {"forward", "forward_backward"};
  return {count("warmup", 1, 0, 1e6, "calls before the first one that counts"),
          repeats,
          relative_error,
          count("min_repeats", 5, 2, 1e6, "repeats: auto makes at least this many"),
          count("max_repeats", 100, 2, 1e6, "repeats: auto makes at most this many"),
          pass};
}

}  // namespace

const InputSource* Registry::find_source(const std::string& name) const {
  return find(sources, name);
}
const Backend* Registry::find_backend(const std::string& name) const {
  return find(backends, name);
}
const Measure* Registry::find_measure(const std::string& name) const {
  return find(measures, name);
}

const Registry& default_registry() {
  static const Registry registry{all_input_sources(), all_backends(), all_measures()};
  return registry;
}

const std::vector<ParameterSpec>& problem_parameters() {
  static const std::vector<ParameterSpec> specs = make_problem_parameters();
  return specs;
}

const std::vector<ParameterSpec>& timing_parameters() {
  static const std::vector<ParameterSpec> specs = make_timing_parameters();
  return specs;
}

const std::vector<ParameterSpec>& run_parameters() {
  static const std::vector<ParameterSpec> specs = {
      count("trials", 1, 1, 1e6, "independent draws of the inputs and of every random choice")};
  return specs;
}

}  // namespace hyperattn
