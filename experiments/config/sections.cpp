#include "experiments/config/sections.h"

#include <algorithm>

#include "algorithms/backend.h"
#include "experiments/inputs/input_source.h"
#include "experiments/measures/measure.h"

namespace hyperattn {
namespace {

template <class Thing>
std::vector<std::string> names_of(const std::vector<const Thing*>& things) {
  std::vector<std::string> names;
  for (const Thing* thing : things) names.push_back(thing->name());
  return names;
}

std::vector<std::string> source_names(const Registry& registry) {
  return names_of(registry.sources);
}
std::vector<std::string> backend_names_of(const Registry& registry) {
  return names_of(registry.backends);
}
std::vector<std::string> measure_names(const Registry& registry) {
  return names_of(registry.measures);
}

std::vector<ParameterSpec> source_specs(const Registry& registry, const std::string& name) {
  const InputSource* source = registry.find_source(name);
  if (source == nullptr) return {};
  std::vector<ParameterSpec> specs = source->parameters();
  specs.insert(specs.end(), problem_parameters().begin(), problem_parameters().end());
  return registry.offered(std::move(specs));
}

std::vector<ParameterSpec> backend_specs(const Registry& registry, const std::string& name) {
  const Backend* backend = registry.find_backend(name);
  return backend == nullptr ? std::vector<ParameterSpec>{} : registry.offered(backend->parameters());
}

std::vector<ParameterSpec> measure_specs(const Registry& registry, const std::string& name) {
  const Measure* measure = registry.find_measure(name);
  return measure == nullptr ? std::vector<ParameterSpec>{} : measure->parameters();
}

YamlNode as_map(YamlNode entry, const Section& section) {
  if (!entry.is_scalar()) return entry;
  YamlNode map;
  map.kind = YamlNode::Kind::map;
  map.origin = entry.origin;
  map.set(section.name_key, std::move(entry));
  return map;
}

}  // namespace

bool Section::knows(const Registry& registry, const std::string& name) const {
  const std::vector<std::string> known = names(registry);
  return std::find(known.begin(), known.end(), name) != known.end();
}

const Section& inputs_section() {
  static const Section section{"inputs", "source", "source", {"label"}, source_names, source_specs};
  return section;
}

const Section& backends_section() {
  static const Section section{"backends", "name", "backend", {}, backend_names_of, backend_specs};
  return section;
}

const Section& measures_section() {
  static const Section section{"measures", "name", "measure", {}, measure_names, measure_specs};
  return section;
}

const std::vector<const Section*>& all_sections() {
  static const std::vector<const Section*> all = {&inputs_section(), &backends_section(),
                                                  &measures_section()};
  return all;
}

void write_out_entries(YamlNode& root, const Section& section) {
  YamlNode* node = root.find(section.key);
  if (node == nullptr || node->kind == YamlNode::Kind::null) return;
  if (!node->is_list()) {
    YamlNode list;
    list.kind = YamlNode::Kind::list;
    list.origin = node->origin;
    list.items.push_back(std::move(*node));
    *node = std::move(list);
  }
  for (YamlNode& item : node->items) item = as_map(std::move(item), section);
}

std::string entry_name(const YamlNode& entry, const Section& section) {
  const YamlNode* name = entry.find(section.name_key);
  return name != nullptr && name->is_scalar() ? name->text : "";
}

}  // namespace hyperattn
