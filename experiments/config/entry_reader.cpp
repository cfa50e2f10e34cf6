#include "experiments/config/entry_reader.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/text.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

EntryDraft read_entry(const YamlNode& node, const std::string& path, const Section& section,
                      const Registry& registry, Problems& problems) {
  EntryDraft draft;
  draft.path = path;
  draft.registry = &registry;
  draft.origin = node.origin;
  if (!node.is_map()) {
    problems.add(node.origin, fmt::format("{} must be a map with '{}', or the name alone, but is {}", path,
                                          section.name_key, describe(node)));
    return draft;
  }
  const YamlNode* name = node.find(section.name_key);
  if (name == nullptr || !name->is_scalar()) {
    problems.add(node.origin, fmt::format("{}.{} is missing. Allowed: {}", path, section.name_key,
                                          join(section.names(registry))));
    return draft;
  }
  if (!section.knows(registry, name->text)) {
    problems.add_unknown(name->origin, section.what, name->text, path, section.names(registry));
    return draft;
  }
  draft.name = name->text;
  draft.specs = section.specs(registry, draft.name);
  draft.parameters = independent_defaults(draft.specs);
  std::vector<std::string> other_keys = {section.name_key};
  other_keys.insert(other_keys.end(), section.other_keys.begin(), section.other_keys.end());
  read_parameters(node, other_keys, draft, problems);
  return draft;
}

}  // namespace

void read_parameters(const YamlNode& map, const std::vector<std::string>& other_keys, EntryDraft& draft,
                     Problems& problems) {
  const std::string prefix = draft.path.empty() ? "" : draft.path + ".";
  for (const YamlField& field : map.fields) {
    const std::string against = draft.registry == nullptr ? "" : draft.registry->reason_against(field.key);
    if (!against.empty()) {
      if (!draft.registry->reads_stored) problems.add(field.origin, prefix + field.key + " " + against);
      continue;
    }
    if (contains(other_keys, field.key)) continue;
    const ParameterSpec* spec = find_spec(draft.specs, field.key);
    if (spec == nullptr) {
      std::vector<std::string> allowed = other_keys;
      for (const std::string& name : spec_names(draft.specs)) allowed.push_back(name);
      const std::string kind = draft.name.empty() ? "" : " (" + draft.name + ")";
      const std::string place = draft.path.empty() ? draft.name : draft.path + kind;
      problems.add_unknown(field.origin, "key", field.key, place, allowed);
      continue;
    }
    const bool says_none = field.value.kind == YamlNode::Kind::null && !field.value.text.empty();
    if (spec->optional && says_none) continue;
    draft.own[field.key] = field.value.origin;
    if (auto value = read_value(field.value, *spec, prefix + field.key, problems))
      draft.parameters.set(field.key, *value);
  }
}

std::vector<EntryDraft> read_section(const YamlNode& root, const Section& section, const Registry& registry,
                                     Problems& problems) {
  std::vector<EntryDraft> drafts;
  const YamlNode* list = root.find(section.key);
  if (list == nullptr) return drafts;
  const bool may_be_empty = section.key == measures_section().key;
  if (list->is_list() && list->items.empty() && may_be_empty) return drafts;
  if (list->kind == YamlNode::Kind::null || list->items.empty()) {
    problems.add(list->origin, fmt::format("{} is empty; it must be a list of entries with '{}'", section.key,
                                           section.name_key));
    return drafts;
  }
  if (list->items.size() > kMaximumEntries) {
    problems.add(list->origin, fmt::format("{} has {} entries, more than {}", section.key, list->items.size(),
                                           kMaximumEntries));
    return drafts;
  }
  for (size_t i = 0; i < list->items.size(); ++i)
    drafts.push_back(
        read_entry(list->items[i], section.key + "[" + std::to_string(i) + "]", section, registry, problems));
  return drafts;
}

void require_parameters(const EntryDraft& draft, const std::vector<std::string>& supplied,
                        Problems& problems) {
  for (const ParameterSpec& spec : draft.specs) {
    if (spec.default_value || spec.optional || draft.own.count(spec.name) != 0) continue;
    if (contains(supplied, spec.name)) continue;
    const bool of_sweep = !draft.path.empty();
    problems.add(draft.origin, fmt::format("{}{} is missing: '{}' needs it ({}){}",
                                           of_sweep ? draft.path + "." : "", spec.name, draft.name,
                                           spec.meaning, of_sweep ? ", here or as an axis of sweep" : ""));
  }
}

}  // namespace hyperattn
