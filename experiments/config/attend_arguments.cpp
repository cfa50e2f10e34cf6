#include "experiments/config/attend_arguments.h"

#include <algorithm>

#include "algorithms/backend.h"
#include "experiments/config/entry_reader.h"
#include "experiments/config/overrides.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

ParameterSpec make_count(const std::string& name, double maximum, const std::string& meaning) {
  ParameterSpec spec;
  spec.name = name;
  spec.type = ParameterType::integer;
  spec.default_value = int64_t{0};
  spec.minimum = 0;
  spec.maximum = maximum;
  spec.meaning = meaning;
  return spec;
}

/// What every backend takes besides its own parameters.
std::vector<ParameterSpec> call_parameters() {
  std::vector<ParameterSpec> specs = problem_parameters();
  specs.push_back(make_count("trial", 4294967295.0, "number of the independent draw"));
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
      problems.add(assignment.value.origin, "sets '" + assignment.path + "' a second time");
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

AttendArguments read_attend_arguments(const std::vector<std::string>& arguments, const Registry& registry) {
  Problems problems("attend");
  const YamlNode map = collect(arguments, problems);
  AttendArguments result;
  result.backend = find_backend_of(map, registry, problems);
  if (result.backend == nullptr) problems.throw_if_any();

  EntryDraft draft;
  draft.name = result.backend->name();
  draft.specs = result.backend->parameters();
  const std::vector<ParameterSpec> of_call = call_parameters();
  draft.specs.insert(draft.specs.end(), of_call.begin(), of_call.end());
  draft.parameters = default_parameters(draft.specs);
  read_parameters(map, {"backend", "seed"}, draft, problems);
  require_parameters(draft, {}, problems);
  if (const YamlNode* seed = map.find("seed")) result.seed = read_seed(*seed, problems);
  problems.throw_if_any();

  result.causal = draft.parameters.boolean("causal");
  if (draft.parameters.has("scale")) result.scale = draft.parameters.number("scale");
  result.trial = static_cast<uint32_t>(draft.parameters.integer("trial"));
  for (const ParameterSpec& spec : of_call) draft.parameters.erase(spec.name);
  result.parameters = draft.parameters;
  return result;
}

}  // namespace hyperattn
