#include "experiments/config/registry.h"

#include "algorithms/backend.h"
#include "algorithms/masks/mask.h"
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

/// A number of timed calls.
ParameterSpec calls(const std::string& name, const std::string& meaning, double least, int64_t by_default) {
  return integer_parameter(name, meaning).between(least, 1e6).by_default(by_default);
}

std::vector<ParameterSpec> make_problem_parameters() {
  return {boolean_parameter("causal", "query row i sees keys 0 to i only"),
          number_parameter("scale", "factor of every score; 1/sqrt(head_dim) unless given").or_absent()};
}

std::vector<ParameterSpec> make_timing_parameters() {
  return {calls("warmup", "calls before the first one that counts", 0, 1),
          calls("repeats", "timed calls of each trial; auto: until they agree", 1, 3).or_word("auto"),
          number_parameter("relative_error", "stops when the median's relative error is at most this")
              .between(1e-6, 1)
              .by_default(0.02)
              .only_with("repeats", {"auto"}),
          calls("min_repeats", "makes at least this many", 2, 5).only_with("repeats", {"auto"}),
          calls("max_repeats", "makes at most this many", 2, 100).only_with("repeats", {"auto"}),
          choice_parameter("pass", {"forward", "forward_backward"}, "what is timed")};
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

void Registry::refuse_mask_files(const std::string& reason) {
  without[kMaskPath] = reason;
  for (const Backend* backend : backends)
    for (const ParameterSpec& spec : backend->parameters()) {
      if (spec.name != kMaskPath) continue;
      for (const EffectCondition& condition : spec.conditions)
        for (const EffectCondition::Alternative& alternative : condition.alternatives)
          for (const ParameterValue& value : alternative.values)
            without_choices[alternative.parameter].push_back(to_string(value));
    }
}

std::vector<ParameterSpec> Registry::offered(std::vector<ParameterSpec> specs) const {
  std::erase_if(specs, [&](const ParameterSpec& spec) { return without.count(spec.name) != 0; });
  for (ParameterSpec& spec : specs)
    if (const auto found = without_choices.find(spec.name); found != without_choices.end())
      for (const std::string& choice : found->second) std::erase(spec.choices, choice);
  return specs;
}

std::string Registry::reason_against(const std::string& name) const {
  const auto found = without.find(name);
  return found == without.end() ? "" : "can't be set here: " + found->second;
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
      integer_parameter("trials", "independent draws of the inputs and of every random choice")
          .between(1, 1e6)
          .by_default(1)};
  return specs;
}

}  // namespace hyperattn
