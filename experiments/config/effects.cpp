#include "experiments/config/effects.h"

#include <algorithm>
#include <map>

#include "experiments/config/values.h"

namespace hyperattn {
namespace {

/// The values that a parameter has in some case, and the last layer that had a say.
struct PossibleValues {
  std::vector<ParameterValue> values;
  Layer layer = Layer::file;
};

using Possible = std::map<std::string, PossibleValues>;

Possible possible_values(const EntryDraft& draft) {
  Possible possible;
  for (const auto& [name, value] : draft.parameters.all()) {
    const auto own = draft.own.find(name);
    possible[name] = {{value}, own == draft.own.end() ? Layer::file : own->second.layer};
  }
  return possible;
}

/// An axis that still reaches the entry has the last word.
Possible possible_values(const EntryDraft& draft, size_t entry, bool of_inputs,
                         const std::vector<SweepDimension>& sweep) {
  Possible possible = possible_values(draft);
  for (const SweepDimension& dimension : sweep)
    for (const Axis& axis : dimension.axes)
      if (axis.of_inputs == of_inputs &&
          std::find(axis.entries.begin(), axis.entries.end(), entry) != axis.entries.end())
        possible[axis.parameter] = {axis.values, axis.layer};
  return possible;
}

/// Of the parameters of the problem, over all inputs: what backends meet.
Possible problem_values(const std::vector<EntryDraft>& inputs, const std::vector<SweepDimension>& sweep) {
  Possible met;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Possible of_input = possible_values(inputs[i], i, true, sweep);
    for (const ParameterSpec& spec : problem_parameters()) {
      const auto found = of_input.find(spec.name);
      if (found == of_input.end()) continue;
      PossibleValues& all = met[spec.name];
      all.values.insert(all.values.end(), found->second.values.begin(), found->second.values.end());
      all.layer = std::max(all.layer, found->second.layer);
    }
  }
  return met;
}

/// Decides for the parameters of one entry.
class Effects {
 public:
  Effects(const EntryDraft& draft, Possible possible) : draft_(draft), possible_(std::move(possible)) {
    for (const auto& [name, found] : possible_) some_values_.set(name, found.values.front());
  }

  void refuse(Problems& problems) const {
    for (const ParameterSpec& spec : draft_.specs) {
      const auto own = draft_.own.find(spec.name);
      if (own == draft_.own.end() || spec.conditions.empty() || is_at_default(spec, draft_.parameters))
        continue;
      Layer layer = Layer::file;
      if (may_have_effect(spec, layer) || own->second.layer < layer) continue;
      const std::string prefix = draft_.path.empty() ? "" : draft_.path + ".";
      problems.add(own->second, prefix + spec.name + " " + why_no_effect(spec, draft_.specs, some_values_));
    }
  }

 private:
  /// `layer`: the last one that decided about a condition that cannot be met.
  bool may_have_effect(const ParameterSpec& spec, Layer& layer) const {
    bool may = true;
    for (const EffectCondition& condition : spec.conditions) may = may_be_met(condition, layer) && may;
    return may;
  }

  bool may_be_met(const EffectCondition& condition, Layer& layer) const {
    bool known = false;
    for (const auto& alternative : condition.alternatives) {
      const auto found = possible_.find(alternative.parameter);
      if (found == possible_.end()) continue;
      known = true;
      const auto& values = found->second.values;
      const bool admitted = std::any_of(values.begin(), values.end(), [&](const ParameterValue& value) {
        return admits(alternative, value);
      });
      const ParameterSpec* other = find_spec(draft_.specs, alternative.parameter);
      if (admitted && (other == nullptr || may_have_effect(*other, layer))) return true;
      if (!admitted) layer = std::max(layer, found->second.layer);
    }
    return !known;
  }

  const EntryDraft& draft_;
  Possible possible_;
  Parameters some_values_;
};

}  // namespace

void refuse_ineffective(const std::vector<EntryDraft>& inputs, const std::vector<EntryDraft>& backends,
                        const std::vector<SweepDimension>& sweep, Problems& problems) {
  for (size_t i = 0; i < inputs.size(); ++i)
    Effects(inputs[i], possible_values(inputs[i], i, true, sweep)).refuse(problems);
  const Possible of_problem = problem_values(inputs, sweep);
  for (size_t i = 0; i < backends.size(); ++i) {
    Possible possible = possible_values(backends[i], i, false, sweep);
    possible.insert(of_problem.begin(), of_problem.end());
    Effects(backends[i], std::move(possible)).refuse(problems);
  }
}

void refuse_ineffective(const EntryDraft& draft, Problems& problems) {
  Effects(draft, possible_values(draft)).refuse(problems);
}

}  // namespace hyperattn
