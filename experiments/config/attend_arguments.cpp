#include "experiments/config/attend_arguments.h"

#include <fmt/core.h>

#include <algorithm>

#include "algorithms/backend.h"
#include "core/text.h"
#include "experiments/config/effects.h"
#include "experiments/config/entry_reader.h"
#include "experiments/config/overrides.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

/// What `attend` takes besides a backend's own parameters.
std::vector<ParameterSpec> call_parameters() {
  std::vector<ParameterSpec> specs = problem_parameters();
  specs.push_back(
      integer_parameter("trial", "number of the independent draw").between(0, 4294967295.0).by_default(0));
  return specs;
}

/// The arguments as one map; a key given twice is a problem.
YamlNode collect(const std::vector<std::string>& arguments, Problems& problems) {
  YamlNode map;
  map.kind = YamlNode::Kind::map;
  for (const std::string& argument : arguments) {
    const Assignment assignment = parse_assignment(argument, problems);
    if (assignment.path.empty()) continue;
    if (map.find(assignment.path) != nullptr)
      problems.add(assignment.value.origin, fmt::format("sets '{}' a second time", assignment.path));
    map.set(assignment.path, assignment.value);
  }
  return map;
}

const Backend* find_backend_of(const YamlNode& map, const Registry& registry, Problems& problems) {
  const std::vector<std::string> names = backends_section().names(registry);
  const YamlNode* node = map.find("backend");
  if (node == nullptr) {
    problems.add({}, "backend=NAME is missing. Allowed: " + join(names));
    return nullptr;
  }
  const Backend* backend = registry.find_backend(node->text);
  if (backend == nullptr) problems.add_unknown(node->origin, "backend", node->text, "", names);
  return backend;
}

}  // namespace

BackendArguments read_backend_arguments(const std::string& command, const std::vector<std::string>& arguments,
                                        const std::vector<ParameterSpec>& of_call, const Registry& registry,
                                        const std::vector<std::string>& prescribed) {
  Problems problems(command);
  std::vector<std::string> all = arguments;
  all.insert(all.end(), prescribed.begin(), prescribed.end());
  const YamlNode map = collect(all, problems);
  BackendArguments result;
  result.backend = find_backend_of(map, registry, problems);
  if (result.backend == nullptr) problems.throw_if_any();

  EntryDraft draft;
  draft.name = result.backend->name();
  draft.registry = &registry;
  draft.specs = registry.offered(result.backend->parameters());
  draft.specs.insert(draft.specs.end(), of_call.begin(), of_call.end());
  draft.parameters = independent_defaults(draft.specs);
  read_parameters(map, {"backend", "seed"}, draft, problems);
  require_parameters(draft, {}, problems);
  for (const std::string& argument : prescribed) draft.own.erase(argument.substr(0, argument.find('=')));
  EntryDraft of_call_too = draft;
  if (!draft.parameters.has("causal")) of_call_too.parameters.set("causal", false);
  refuse_ineffective(of_call_too, problems);
  if (const YamlNode* seed = map.find("seed")) result.seed = read_seed(*seed, problems);
  problems.throw_if_any();

  for (const ParameterSpec& spec : of_call) {
    if (!draft.parameters.has(spec.name)) continue;
    result.of_call.set(spec.name, draft.parameters.all().at(spec.name));
    draft.parameters.erase(spec.name);
  }
  ChosenBackend chosen = on_chosen_engine(*result.backend, std::move(draft.parameters));
  result.backend = chosen.backend;
  result.parameters = std::move(chosen.parameters);
  return result;
}

AttendArguments read_attend_arguments(const std::vector<std::string>& arguments, const Registry& registry,
                                      const std::vector<std::string>& prescribed) {
  const BackendArguments read =
      read_backend_arguments("attend", arguments, call_parameters(), registry, prescribed);
  AttendArguments result;
  result.backend = read.backend;
  result.parameters = read.parameters;
  result.causal = read.of_call.boolean("causal");
  if (read.of_call.has("scale")) result.scale = read.of_call.number("scale");
  result.seed = read.seed;
  result.trial = static_cast<uint32_t>(read.of_call.integer("trial"));
  return result;
}

}  // namespace hyperattn
