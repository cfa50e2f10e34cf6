#include "experiments/config/sweep_reader.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/parameters.h"
#include "core/text.h"
#include "experiments/config/overrides.h"
#include "experiments/config/values.h"
#include "experiments/config/where_names.h"

namespace hyperattn {
namespace {

constexpr size_t kMaximumPredicates = 100;

std::vector<size_t> entries_with(const std::string& parameter, const std::vector<EntryDraft>& drafts) {
  std::vector<size_t> entries;
  for (size_t i = 0; i < drafts.size(); ++i)
    if (find_spec(drafts[i].specs, parameter) != nullptr) entries.push_back(i);
  return entries;
}

std::vector<std::string> parameter_names(const std::vector<EntryDraft>& drafts) {
  std::vector<std::string> names;
  for (const EntryDraft& draft : drafts)
    for (const ParameterSpec& spec : draft.specs)
      if (std::find(names.begin(), names.end(), spec.name) == names.end()) names.push_back(spec.name);
  return names;
}

/// "lsh, hyper": what else could take the parameter.
std::string who_has(const std::string& parameter, const Registry& registry) {
  std::vector<std::string> owners;
  for (const Section* section : {&inputs_section(), &backends_section()})
    for (const std::string& name : section->names(registry))
      if (find_spec(section->specs(registry, name), parameter) != nullptr) owners.push_back(name);
  return join(owners);
}

std::string unknown_axis(const std::string& parameter, std::vector<std::string> allowed,
                         const Registry& registry) {
  if (const std::string against = registry.reason_against(parameter); !against.empty()) return against;
  const std::string owners = who_has(parameter, registry);
  if (!owners.empty())
    return fmt::format(
        "applies nowhere: no such entry of this configuration has the parameter '{}' (these have it: {})",
        parameter, owners);
  const std::string near = nearest_name(parameter, allowed);
  return fmt::format("applies nowhere: there is no parameter '{}'{} Allowed: {}", parameter,
                     near.empty() ? "." : fmt::format("; did you mean '{}'?", near), join(allowed));
}

AxisTarget bare_target(const std::string& name, const std::vector<EntryDraft>& inputs,
                       const std::vector<EntryDraft>& backends, const Registry& registry) {
  AxisTarget target{name, true, entries_with(name, inputs), ""};
  const std::vector<size_t> of_backends = entries_with(name, backends);
  if (!target.entries.empty() && !of_backends.empty()) {
    target.wrong =
        fmt::format("is a parameter of inputs and of backends; write inputs.{} or backends.{}", name, name);
  } else if (target.entries.empty()) {
    target.of_inputs = false;
    target.entries = of_backends;
  }
  if (target.entries.empty()) {
    std::vector<std::string> allowed = parameter_names(inputs);
    for (const std::string& other : parameter_names(backends)) allowed.push_back(other);
    target.wrong = unknown_axis(name, allowed, registry);
  }
  return target;
}

/// The entries that "inputs", "backends[2]" or "hyper" names.
std::vector<size_t> entries_of_scope(const ConfigPath& path, const std::vector<EntryDraft>& drafts,
                                     const std::string& section_key) {
  std::vector<size_t> entries;
  for (size_t i = 0; i < drafts.size(); ++i) {
    const bool by_section =
        path.head == section_key && (path.index < 0 || static_cast<size_t>(path.index) == i);
    const bool by_name = path.index < 0 && path.head == drafts[i].name;
    if (by_section || by_name) entries.push_back(i);
  }
  return entries;
}

AxisTarget dotted_target(const ConfigPath& path, const std::vector<EntryDraft>& inputs,
                         const std::vector<EntryDraft>& backends, const Registry& registry) {
  AxisTarget target;
  target.parameter = path.rest;
  const std::vector<EntryDraft>* drafts = &inputs;
  std::vector<size_t> scope = entries_of_scope(path, inputs, "inputs");
  target.of_inputs = !scope.empty();
  if (scope.empty()) {
    drafts = &backends;
    scope = entries_of_scope(path, backends, "backends");
  }
  std::vector<EntryDraft> reached;
  for (size_t i : scope) {
    reached.push_back((*drafts)[i]);
    if (find_spec((*drafts)[i].specs, path.rest) != nullptr) target.entries.push_back(i);
  }
  if (scope.empty())
    target.wrong = fmt::format(
        "applies nowhere: the part before the dot must be inputs, backends, an entry such as backends[0] or "
        "the name of one, but is '{}{}'",
        path.head, path.index < 0 ? "" : "[" + std::to_string(path.index) + "]");
  else if (target.entries.empty())
    target.wrong = unknown_axis(path.rest, parameter_names(reached), registry);
  return target;
}

/// An axis while it is not decided yet which entries it keeps.
struct AxisDraft {
  Axis axis;
  Origin origin;
};

/// Anything that sets one parameter of one entry.
struct Claim {
  AxisDraft* axis = nullptr;  ///< null: the entry's own value
  Origin origin;
};

class SweepReader {
 public:
  SweepReader(const std::vector<EntryDraft>& inputs, const std::vector<EntryDraft>& backends,
              const Registry& registry, Problems& problems)
      : inputs_(inputs), backends_(backends), registry_(registry), problems_(problems) {}

  SweepDraft read(const YamlNode& sweep) {
    for (const YamlField& field : sweep.fields) {
      if (field.key == "where")
        read_where(field.value);
      else if (field.key == "zip")
        read_zips(field.value);
      else
        add_dimension({read_axis(field.key, field.origin, field.value, "sweep." + field.key)});
    }
    settle(inputs_, true);
    settle(backends_, false);
    return finish();
  }

 private:
  [[nodiscard]] const EntryDraft& entry(const Axis& axis, size_t i) const {
    return (axis.of_inputs ? inputs_ : backends_)[axis.entries[i]];
  }

  /// An axis without entries after a problem.
  AxisDraft read_axis(const std::string& path, const Origin& key_origin, const YamlNode& node,
                      const std::string& place) {
    AxisDraft draft;
    draft.origin = node.origin;
    AxisTarget target = find_axis_target(path, inputs_, backends_, registry_);
    if (!target.wrong.empty()) {
      // An entry of unknown name may be the one that has the parameter; it has been reported.
      if (!has_unknown_entry()) problems_.add(key_origin, place + " " + target.wrong);
      refused_.push_back(target.parameter);
      return draft;
    }
    draft.axis = {path, target.parameter, target.of_inputs, target.entries, {}, node.origin.layer};
    draft.axis.values = read_axis_values(node, leading_spec(draft.axis), place, problems_);
    if (draft.axis.values.empty() || !all_accept(draft.axis, node.origin, place)) {
      draft.axis.entries.clear();
      refused_.push_back(target.parameter);
    }
    return draft;
  }

  [[nodiscard]] bool has_unknown_entry() const {
    const auto unknown = [](const EntryDraft& draft) { return draft.name.empty(); };
    return std::any_of(inputs_.begin(), inputs_.end(), unknown) ||
           std::any_of(backends_.begin(), backends_.end(), unknown);
  }

  /// The declaration that decides the type: one of whole numbers, if any is.
  [[nodiscard]] const ParameterSpec& leading_spec(const Axis& axis) const {
    for (size_t i = 0; i < axis.entries.size(); ++i) {
      const ParameterSpec* spec = find_spec(entry(axis, i).specs, axis.parameter);
      if (spec->type == ParameterType::integer) return *spec;
    }
    return *find_spec(entry(axis, 0).specs, axis.parameter);
  }

  bool all_accept(const Axis& axis, const Origin& origin, const std::string& place) {
    for (size_t i = 0; i < axis.entries.size(); ++i) {
      const ParameterSpec& spec = *find_spec(entry(axis, i).specs, axis.parameter);
      for (const ParameterValue& value : axis.values) {
        const std::string wrong = check_parameter(spec, normalised(spec, value));
        if (wrong.empty()) continue;
        problems_.add(origin, fmt::format("{} {} (for {})", place, wrong, entry(axis, i).path));
        return false;
      }
    }
    return true;
  }

  void read_zips(const YamlNode& node) {
    if (node.is_map()) return read_zip(node, "sweep.zip");
    if (!node.is_list()) {
      problems_.add(node.origin,
                    "sweep.zip must be a map of axes of equal length, or a list of such maps, but is " +
                        describe(node));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i)
      read_zip(node.items[i], "sweep.zip[" + std::to_string(i) + "]");
  }

  void read_zip(const YamlNode& node, const std::string& place) {
    if (!node.is_map() || node.fields.empty()) {
      problems_.add(node.origin, fmt::format("{} must be a map of axes of equal length, but is {}", place,
                                             node.is_map() ? "empty" : describe(node)));
      return;
    }
    std::vector<AxisDraft> axes;
    for (const YamlField& field : node.fields)
      axes.push_back(read_axis(field.key, field.origin, field.value, place + "." + field.key));
    const auto failed = [](const AxisDraft& draft) { return draft.axis.entries.empty(); };
    if (std::any_of(axes.begin(), axes.end(), failed)) return refuse(axes);
    std::vector<std::string> lengths;
    for (const AxisDraft& draft : axes)
      lengths.push_back(fmt::format("{} has {}", draft.axis.path, draft.axis.values.size()));
    const size_t length = axes.front().axis.values.size();
    const auto differs = [&](const AxisDraft& draft) { return draft.axis.values.size() != length; };
    if (std::none_of(axes.begin(), axes.end(), differs)) return add_dimension(std::move(axes));
    problems_.add(node.origin,
                  fmt::format("{} needs axes of equal length, but {} values", place, join(lengths)));
    refuse(axes);
  }

  void refuse(const std::vector<AxisDraft>& axes) {
    for (const AxisDraft& draft : axes) refused_.push_back(draft.axis.parameter);
  }

  void add_dimension(std::vector<AxisDraft> axes) {
    if (!axes.front().axis.entries.empty()) dimensions_.push_back(std::move(axes));
  }

  void read_where(const YamlNode& node) {
    if (node.is_scalar()) return read_predicate(node, "sweep.where");
    if (!node.is_list())
      problems_.add(node.origin,
                    "sweep.where must be a list of predicates such as 'sample_size <= key_len', but is " +
                        describe(node));
    if (node.items.size() > kMaximumPredicates) {
      problems_.add(node.origin, fmt::format("sweep.where has {} predicates, more than {}", node.items.size(),
                                             kMaximumPredicates));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i)
      read_predicate(node.items[i], "sweep.where[" + std::to_string(i) + "]");
  }

  void read_predicate(const YamlNode& node, const std::string& place) {
    if (!node.is_scalar()) {
      problems_.add(node.origin, fmt::format("{} must be text such as 'sample_size <= key_len', but is {}",
                                             place, describe(node)));
      return;
    }
    try {
      WhereExpression expression(node.text);
      if (check_names(expression, node.origin, place)) where_.push_back(std::move(expression));
    } catch (const Error& error) {
      problems_.add(node.origin, place + " " + error.what());
    }
  }

  bool check_names(const WhereExpression& expression, const Origin& origin, const std::string& place) {
    const size_t before = problems_.size();
    const std::vector<std::string> of_inputs = parameter_names(inputs_);
    const std::vector<std::string> of_backends = parameter_names(backends_);
    const std::vector<std::string> allowed = where_names(of_inputs, of_backends);
    const auto has = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    for (const std::string& name : expression.names()) {
      if (has_unknown_entry()) continue;
      if (const std::string reason = registry_.reason_against(name.substr(name.rfind('.') + 1));
          !reason.empty() && !registry_.reads_stored)
        problems_.add(origin, fmt::format("{}: '{}' {}", place, name, reason));
      else if (!has(allowed, name))
        problems_.add_unknown(
            origin, "name", name,
            nearest_name(name, allowed).empty() ? place + ", where texts are quoted" : place, allowed);
      else if (has(of_inputs, name) && has(of_backends, name))
        problems_.add(
            origin,
            fmt::format("{}: '{}' is a parameter of inputs and of backends; write inputs.{} or backends.{}",
                        place, name, name, name));
    }
    if (problems_.size() != before || has_unknown_entry()) return problems_.size() == before;
    const std::string impossible = expression.impossible_comparison(
        [&](const std::string& name) { return where_type(name, registry_, declarations_of(name)); });
    if (!impossible.empty()) problems_.add(origin, place + " " + impossible);
    return impossible.empty();
  }

  /// Of the parameter that a name of a predicate means, in all entries.
  [[nodiscard]] std::vector<ParameterSpec> declarations_of(const std::string& name) const {
    const size_t dot = name.find('.');
    const std::string scope = dot == std::string::npos ? "" : name.substr(0, dot);
    const std::string parameter = dot == std::string::npos ? name : name.substr(dot + 1);
    std::vector<ParameterSpec> found;
    for (const auto* drafts : {&inputs_, &backends_}) {
      if (!scope.empty() && (scope == "inputs") != (drafts == &inputs_)) continue;
      for (const EntryDraft& draft : *drafts)
        if (const ParameterSpec* spec = find_spec(draft.specs, parameter)) found.push_back(*spec);
    }
    return found;
  }

  /// Takes entries away from axes until each parameter of each entry is set once.
  void settle(const std::vector<EntryDraft>& drafts, bool of_inputs) {
    for (size_t i = 0; i < drafts.size(); ++i)
      for (const ParameterSpec& spec : drafts[i].specs)
        settle_one(drafts[i], spec.name, claims_on(drafts[i], i, of_inputs, spec.name), i);
  }

  std::vector<Claim> claims_on(const EntryDraft& draft, size_t i, bool of_inputs, const std::string& name) {
    std::vector<Claim> claims;
    const auto own = draft.own.find(name);
    if (own != draft.own.end()) claims.push_back({nullptr, own->second});
    for (std::vector<AxisDraft>& dimension : dimensions_)
      for (AxisDraft& axis : dimension) {
        const std::vector<size_t>& entries = axis.axis.entries;
        const bool reaches = std::find(entries.begin(), entries.end(), i) != entries.end();
        if (axis.axis.of_inputs == of_inputs && axis.axis.parameter == name && reaches)
          claims.push_back({&axis, axis.origin});
      }
    return claims;
  }

  void settle_one(const EntryDraft& draft, const std::string& name, const std::vector<Claim>& claims,
                  size_t i) {
    if (claims.size() < 2) return;
    Layer top = Layer::file;
    for (const Claim& claim : claims) top = std::max(top, claim.origin.layer);
    const Claim* winner = nullptr;
    for (const Claim& claim : claims) {
      if (claim.origin.layer == top && winner != nullptr)
        problems_.add(claim.origin,
                      fmt::format("{}.{} is set twice, by {} and by {}; keep one of them, or give the axis a "
                                  "path that reaches one entry, such as {}{}",
                                  draft.path, name, claimant(draft, *winner), claimant(draft, claim),
                                  claim.axis->axis.of_inputs ? "inputs[0]." : "backends[0].", name));
      if (claim.origin.layer == top && winner == nullptr)
        winner = &claim;
      else if (claim.axis != nullptr)
        std::erase(claim.axis->axis.entries, i);
    }
  }

  static std::string claimant(const EntryDraft& draft, const Claim& claim) {
    const std::string line =
        claim.origin.layer == Layer::command_line ? "" : " in line " + std::to_string(claim.origin.line);
    return (claim.axis == nullptr ? draft.path : "axis " + claim.axis->axis.path) + line;
  }

  SweepDraft finish() {
    SweepDraft result;
    result.where = std::move(where_);
    result.refused = std::move(refused_);
    for (std::vector<AxisDraft>& dimension : dimensions_) {
      SweepDimension kept;
      for (AxisDraft& draft : dimension)
        if (!draft.axis.entries.empty()) kept.axes.push_back(std::move(draft.axis));
      if (!kept.axes.empty()) result.dimensions.push_back(std::move(kept));
    }
    return result;
  }

  const std::vector<EntryDraft>& inputs_;
  const std::vector<EntryDraft>& backends_;
  const Registry& registry_;
  Problems& problems_;
  std::vector<std::vector<AxisDraft>> dimensions_;
  std::vector<WhereExpression> where_;
  std::vector<std::string> refused_;
};

}  // namespace

AxisTarget find_axis_target(const std::string& path, const std::vector<EntryDraft>& inputs,
                            const std::vector<EntryDraft>& backends, const Registry& registry) {
  const ConfigPath parts = parse_path(path);
  if (!parts.well_formed) {
    AxisTarget target;
    target.wrong = "is not the name of a parameter or a path such as inputs.heads";
    return target;
  }
  if (parts.rest.empty() && parts.index < 0) return bare_target(path, inputs, backends, registry);
  return dotted_target(parts, inputs, backends, registry);
}

SweepDraft read_sweep(const YamlNode& root, const std::vector<EntryDraft>& inputs,
                      const std::vector<EntryDraft>& backends, const Registry& registry, Problems& problems) {
  const YamlNode* sweep = root.find("sweep");
  if (sweep == nullptr || sweep->kind == YamlNode::Kind::null) return {};
  if (!sweep->is_map()) {
    problems.add(sweep->origin, "sweep must be a map of axes, but is " + describe(*sweep));
    return {};
  }
  return SweepReader(inputs, backends, registry, problems).read(*sweep);
}

}  // namespace hyperattn
