#include "experiments/config/grid.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "algorithms/backend.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/config/case_identity.h"
#include "experiments/config/values.h"
#include "experiments/config/where_names.h"

namespace hyperattn {
namespace {

constexpr size_t kExamples = 3;

/// The axes of one dimension that set a parameter of one input entry or of one backend entry.
struct Factor {
  size_t size = 1;
  std::vector<const Axis*> of_input;
  std::vector<const Axis*> of_backend;
};

bool applies(const Axis& axis, bool to_inputs, size_t entry) {
  return axis.of_inputs == to_inputs &&
         std::find(axis.entries.begin(), axis.entries.end(), entry) != axis.entries.end();
}

/// Dimensions without an axis for either entry are left out: that is what "applies only where it is a
/// parameter" means.
std::vector<Factor> factors_of(const ExperimentConfig& config, size_t input, size_t backend) {
  std::vector<Factor> factors;
  for (const SweepDimension& dimension : config.sweep) {
    Factor factor;
    factor.size = dimension.size();
    for (const Axis& axis : dimension.axes) {
      if (applies(axis, true, input)) factor.of_input.push_back(&axis);
      if (applies(axis, false, backend)) factor.of_backend.push_back(&axis);
    }
    if (!factor.of_input.empty() || !factor.of_backend.empty()) factors.push_back(std::move(factor));
  }
  return factors;
}

/// Combinations before predicates, as double: the product of hostile axes has no other type.
double count_combinations(const ExperimentConfig& config) {
  double total = 0;
  for (size_t input = 0; input < config.inputs.size(); ++input)
    for (size_t backend = 0; backend < config.backends.size(); ++backend) {
      double product = 1;
      for (const Factor& factor : factors_of(config, input, backend))
        product *= static_cast<double>(factor.size);
      total += product;
    }
  return total;
}

void set_values(const std::vector<const Axis*>& axes, size_t position,
                const std::vector<ParameterSpec>& specs, Parameters& parameters,
                std::vector<std::string>& swept) {
  for (const Axis* axis : axes) {
    swept.push_back(axis->parameter);
    const ParameterSpec* spec = find_spec(specs, axis->parameter);
    const ParameterValue& value = axis->values[position];
    parameters.set(axis->parameter, spec == nullptr ? value : normalised(*spec, value));
  }
}

std::optional<InputShapes> shapes_of(const InputPoint& input) {
  try {
    return input.source->shapes(input.parameters);
  } catch (const Error&) {
    return {};
  }
}

std::vector<ParameterSpec> specs_of(const InputEntry& input) {
  std::vector<ParameterSpec> specs = input.source->parameters();
  specs.insert(specs.end(), problem_parameters().begin(), problem_parameters().end());
  return specs;
}

/// Moves the parameters of the problem out of those of the source, which keeps only those it declares, too
/// (what `conditioned` builds depends on the scale).
void separate_problem(InputPoint& input) {
  input.causal = input.parameters.has("causal") && input.parameters.boolean("causal");
  if (input.parameters.has("scale")) input.scale = input.parameters.number("scale");
  for (const ParameterSpec& spec : problem_parameters())
    if (find_spec(input.source->parameters(), spec.name) == nullptr) input.parameters.erase(spec.name);
}

/// What axes set without an effect.
struct Ineffective {
  std::vector<std::string> names;
  std::string why;  ///< the first one has none
};

/// Puts those of the parameters that an axis set and that have no effect back to their defaults, so that the
/// points of such an axis are one. `problem`: values that conditions may name, too.
Ineffective reset_ineffective(const std::vector<ParameterSpec>& specs, const Parameters& problem,
                              Parameters& parameters, std::vector<std::string>& swept) {
  Parameters values = parameters;
  for (const auto& [name, value] : problem.all()) values.set(name, value);
  Ineffective found;
  for (const std::string& name : swept) {
    const ParameterSpec* spec = find_spec(specs, name);
    if (spec == nullptr || (!spec->default_value && !spec->optional)) continue;
    const std::string why = why_no_effect(*spec, specs, values);
    if (why.empty()) continue;
    parameters.erase(name);
    if (const auto value = default_of(*spec, parameters)) parameters.set(name, normalised(*spec, *value));
    if (found.names.empty()) found.why = why;
    found.names.push_back(name);
  }
  std::erase_if(swept, [&](const std::string& name) {
    return std::find(found.names.begin(), found.names.end(), name) != found.names.end();
  });
  return found;
}

/// A case among those of its input point, which may stand for others.
struct Twin {
  size_t input = 0;
  size_t position = 0;
  Ineffective ineffective;
};

class Expander {
 public:
  explicit Expander(const ExperimentConfig& config) : config_(config) {
    for (const WhereExpression& predicate : config.where) dropped_.push_back({predicate.text(), 0, {}});
    for (const InputEntry& input : config.inputs) input_specs_.push_back(specs_of(input));
  }

  Grid expand() {
    for (size_t input = 0; input < config_.inputs.size(); ++input)
      for (size_t backend = 0; backend < config_.backends.size(); ++backend) expand_pair(input, backend);
    return finish();
  }

 private:
  void expand_pair(size_t input, size_t backend) {
    const std::vector<Factor> factors = factors_of(config_, input, backend);
    std::vector<size_t> position(factors.size(), 0);
    do {
      add_combination(input, backend, factors, position);
    } while (advance(factors, position));
  }

  /// The next combination, the last factor fastest; false after the last one.
  static bool advance(const std::vector<Factor>& factors, std::vector<size_t>& position) {
    for (size_t i = factors.size(); i-- > 0;) {
      if (++position[i] < factors[i].size) return true;
      position[i] = 0;
    }
    return false;
  }

  void add_combination(size_t input_entry, size_t backend_entry, const std::vector<Factor>& factors,
                       const std::vector<size_t>& position) {
    const InputEntry& input = config_.inputs[input_entry];
    const BackendEntry& backend = config_.backends[backend_entry];
    Parameters input_parameters = input.parameters;
    std::vector<std::string> input_swept;
    Case grid_case;
    grid_case.backend = backend.backend;
    grid_case.parameters = backend.parameters;
    grid_case.pass = config_.timing.pass;
    for (size_t i = 0; i < factors.size(); ++i) {
      set_values(factors[i].of_input, position[i], input_specs_[input_entry], input_parameters, input_swept);
      set_values(factors[i].of_backend, position[i], backend.backend->parameters(), grid_case.parameters,
                 grid_case.swept);
    }
    ChosenBackend chosen = on_chosen_engine(*grid_case.backend, std::move(grid_case.parameters));
    grid_case.backend = chosen.backend;
    grid_case.parameters = std::move(chosen.parameters);
    Parameters problem;
    if (input_parameters.has("causal")) problem.set("causal", input_parameters.boolean("causal"));
    grid_case.input = find_or_add_input(input, std::move(input_parameters), std::move(input_swept));
    grid_case.id = hash_text(case_identity(config_.seed, inputs_[grid_case.input], grid_case));
    if (seen_.insert(grid_case.id).second && keep(grid_case)) add(std::move(grid_case), problem);
  }

  /// Cases that differ only in what axes set without an effect are one, with the defaults; a case that has no
  /// such twin stays as it is, and so does its name.
  void add(Case grid_case, const Parameters& problem) {
    Case plain = grid_case;
    const Ineffective found =
        reset_ineffective(plain.backend->parameters(), problem, plain.parameters, plain.swept);
    plain.id = hash_text(case_identity(config_.seed, inputs_[plain.input], plain));
    std::vector<Case>& cases = cases_[grid_case.input];
    const auto [twin, is_first] = twins_.try_emplace(plain.id, Twin{plain.input, cases.size(), found});
    if (is_first) {
      cases.push_back(std::move(grid_case));
      return;
    }
    cases_[twin->second.input][twin->second.position] = std::move(plain);
    note_collapsed(found.names.empty() ? twin->second.ineffective : found,
                   cases_[twin->second.input][twin->second.position]);
  }

  void note_collapsed(const Ineffective& found, const Case& grid_case) {
    const std::string parameter = join(found.names);
    for (Collapsed& known : collapsed_)
      if (known.parameter == parameter && known.why == found.why) {
        ++known.count;
        return;
      }
    collapsed_.push_back({parameter, found.why, 1, describe_case(inputs_[grid_case.input], grid_case)});
  }

  size_t find_or_add_input(const InputEntry& entry, Parameters parameters, std::vector<std::string> swept) {
    InputPoint input;
    input.source = entry.source;
    input.parameters = std::move(parameters);
    input.swept = std::move(swept);
    input.label = entry.label;
    separate_problem(input);
    input.id = hash_text(input_identity(config_.seed, input));
    // The first of two points that are equal but for their labels has the name that it would have alone.
    const auto equal = input_index_.find(input.id);
    if (equal != input_index_.end() && inputs_[equal->second].label != input.label) {
      input.label_tells_apart = true;
      input.id = hash_text(input_identity(config_.seed, input));
    }
    const auto [found, is_new] = input_index_.try_emplace(input.id, inputs_.size());
    if (is_new) {
      input.shapes = shapes_of(input);
      inputs_.push_back(std::move(input));
      cases_.emplace_back();
    }
    return found->second;
  }

  bool keep(const Case& grid_case) {
    for (size_t i = 0; i < config_.where.size(); ++i) {
      if (holds(config_.where[i], grid_case)) continue;
      Dropped& dropped = dropped_[i];
      ++dropped.count;
      if (dropped.examples.size() < kExamples)
        dropped.examples.push_back(describe_case(inputs_[grid_case.input], grid_case));
      return false;
    }
    return true;
  }

  /// True, too, where the case has no value for one of the names: the predicate is not about such cases.
  bool holds(const WhereExpression& predicate, const Case& grid_case) const {
    const InputPoint& input = inputs_[grid_case.input];
    try {
      for (const std::string& name : predicate.names())
        if (!where_value(input, grid_case, name)) return true;
      return predicate.evaluate(
          [&](const std::string& name) { return where_value(input, grid_case, name).value(); });
    } catch (const Error& error) {
      fail_usage(fmt::format("{}: sweep.where '{}' {}", config_.file, predicate.text(), error.what()));
    }
  }

  Grid finish() {
    Grid grid;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (cases_[i].empty()) continue;
      for (Case& grid_case : cases_[i]) {
        grid_case.input = grid.inputs.size();
        grid.cases.push_back(std::move(grid_case));
      }
      grid.inputs.push_back(std::move(inputs_[i]));
    }
    for (Dropped& dropped : dropped_)
      if (dropped.count > 0) grid.dropped.push_back(std::move(dropped));
    grid.collapsed = std::move(collapsed_);
    if (grid.cases.empty()) fail_usage(config_.file + ": sweep.where leaves no case to run");
    return grid;
  }

  const ExperimentConfig& config_;
  std::vector<std::vector<ParameterSpec>> input_specs_;  ///< by input entry
  std::vector<InputPoint> inputs_;
  std::vector<std::vector<Case>> cases_;  ///< by input point
  std::unordered_map<std::string, size_t> input_index_;
  std::unordered_set<std::string> seen_;
  std::unordered_map<std::string, Twin> twins_;  ///< by the name without what has no effect
  std::vector<Dropped> dropped_;
  std::vector<Collapsed> collapsed_;
};

/// " name=value" for each parameter that an axis set or that is not at its default.
std::string describe_parameters(const Parameters& parameters, const std::vector<ParameterSpec>& specs,
                                const std::vector<std::string>& swept) {
  std::string text;
  for (const auto& [name, value] : parameters.all()) {
    const ParameterSpec* spec = find_spec(specs, name);
    const bool is_default = spec != nullptr && is_at_default(*spec, parameters);
    const bool is_swept = std::find(swept.begin(), swept.end(), name) != swept.end();
    if (is_swept || !is_default) text += " " + name + "=" + to_string(value);
  }
  return text;
}

}  // namespace

AttentionProblem problem_of(const InputPoint& input) {
  AttentionProblem problem;
  problem.query.shape = input.shapes->query;
  problem.key.shape = input.shapes->key;
  problem.value.shape = input.shapes->value;
  problem.scale = input.scale ? static_cast<float>(*input.scale) : default_scale(problem.head_dim());
  problem.causal = input.causal;
  return problem;
}

Grid expand_grid(const ExperimentConfig& config) {
  const double combinations = count_combinations(config);
  if (combinations > static_cast<double>(kMaximumCases))
    fail_usage(
        fmt::format("{}: the sweep has {} combinations, more than {}; shorten an axis, pair axes with zip, "
                    "or split the experiment",
                    config.file, to_string(ParameterValue(combinations)), kMaximumCases));
  Grid grid = Expander(config).expand();
  check_trial_count(config, grid.cases.size());
  return grid;
}

void check_trial_count(const ExperimentConfig& config, size_t cases) {
  const double trials = static_cast<double>(cases) * static_cast<double>(config.trials);
  if (trials > static_cast<double>(kMaximumTrials))
    fail_usage(
        fmt::format("{}: {} cases with {} trials each are more than the {} trials that one results file can "
                    "hold; use fewer trials, or split the experiment",
                    config.file, cases, config.trials, kMaximumTrials));
}

std::string case_parameters_json(const ExperimentConfig& config, const Grid& grid, const Case& grid_case) {
  return case_identity(config.seed, grid.inputs[grid_case.input], grid_case);
}

std::string describe_case(const InputPoint& input, const Case& grid_case) {
  std::string text = grid_case.backend->name();
  text += describe_parameters(grid_case.parameters, grid_case.backend->parameters(), grid_case.swept);
  text += fmt::format(" on {}{}", input.label,
                      describe_parameters(input.parameters, input.source->parameters(), input.swept));
  if (input.causal) text += " causal=true";
  if (input.scale && !input.parameters.has("scale"))
    text += " scale=" + to_string(ParameterValue(*input.scale));
  return text;
}

}  // namespace hyperattn
