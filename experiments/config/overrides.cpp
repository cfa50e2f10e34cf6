#include "experiments/config/overrides.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "experiments/config/sections.h"
#include "experiments/config/values.h"

namespace hyperattn {
namespace {

YamlNode empty_map(const Origin& origin) {
  YamlNode map;
  map.kind = YamlNode::Kind::map;
  map.origin = origin;
  return map;
}

class Assigner {
 public:
  Assigner(YamlNode& root, const Registry& registry, Problems& problems)
      : root_(root), registry_(registry), problems_(problems) {}

  void assign(const std::string& text, const YamlNode& value) {
    const ConfigPath path = parse_path(text);
    if (!path.well_formed) {
      problems_.add(value.origin,
                    fmt::format("'{}' is not a path such as trials, inputs.heads or inputs[0].heads", text));
      return;
    }
    for (const Section* section : all_sections())
      if (path.head == section->key) return assign_section(*section, path, value);
    if (path.index < 0 && (path.head == "timing" || path.head == "sweep")) return assign_map(path, value);
    if (is_scalar_key(path)) return root_.set(path.head, value);
    assign_by_name(text, path, value);
  }

 private:
  static bool is_scalar_key(const ConfigPath& path) {
    const std::vector<std::string> keys = {"name", "seed", "trials", "output"};
    return path.index < 0 && path.rest.empty() &&
           std::find(keys.begin(), keys.end(), path.head) != keys.end();
  }

  void assign_map(const ConfigPath& path, const YamlNode& value) {
    YamlNode* map = root_.find(path.head);
    if (map == nullptr || map->kind == YamlNode::Kind::null) {
      root_.set(path.head, empty_map(value.origin));
      map = root_.find(path.head);
    }
    if (!map->is_map()) return;  // the reader refuses it
    if (!path.rest.empty()) return set_or_remove(*map, path.rest, value);
    if (!value.is_map()) return set_or_remove(root_, path.head, value);
    for (const YamlField& field : value.fields) set_or_remove(*map, field.key, field.value);
  }

  // `sweep.seq_len=` takes the axis away.
  static void set_or_remove(YamlNode& map, const std::string& key, const YamlNode& value) {
    if (value.kind == YamlNode::Kind::null)
      map.remove(key);
    else
      map.set(key, value);
  }

  void assign_section(const Section& section, const ConfigPath& path, const YamlNode& value) {
    if (path.index >= 0) return assign_entry(section, path, value);
    if (!path.rest.empty()) return assign_all(section, path.rest, value, "");
    const bool merges = value.is_map() && value.find(section.name_key) == nullptr;
    if (merges) {
      for (const YamlField& field : value.fields) assign_all(section, field.key, field.value, "");
      return;
    }
    root_.set(section.key, value);
    write_out_entries(root_, section);
  }

  void assign_entry(const Section& section, const ConfigPath& path, const YamlNode& value) {
    YamlNode* list = root_.find(section.key);
    const size_t count = list != nullptr && list->is_list() ? list->items.size() : 0;
    if (static_cast<size_t>(path.index) >= count) {
      problems_.add(value.origin,
                    fmt::format("{}[{}] does not exist; the entries are numbered from 0, and there are {}",
                                section.key, path.index, count));
      return;
    }
    YamlNode& entry = list->items[static_cast<size_t>(path.index)];
    if (path.rest.empty()) {
      entry = value;
      write_out_entries(root_, section);
    } else if (entry.is_map()) {
      entry.set(path.rest, value);
    }
  }

  [[nodiscard]] std::vector<std::string> keys_of(const Section& section, const YamlNode& entry) const {
    std::vector<std::string> keys = spec_names(section.specs(registry_, entry_name(entry, section)));
    keys.push_back(section.name_key);
    keys.insert(keys.end(), section.other_keys.begin(), section.other_keys.end());
    return keys;
  }

  /// Sets `key` in every entry that has such a parameter (and the name `only`, unless that is empty).
  void assign_all(const Section& section, const std::string& key, const YamlNode& value,
                  const std::string& only) {
    YamlNode* list = root_.find(section.key);
    std::vector<std::string> allowed;
    bool found = false;
    if (list == nullptr || !list->is_list()) return add_no_entries(section, value);
    for (YamlNode& entry : list->items) {
      if (!entry.is_map() || (!only.empty() && entry_name(entry, section) != only)) continue;
      const std::vector<std::string> keys = keys_of(section, entry);
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) {
        entry.set(key, value);
        found = true;
      }
      for (const std::string& name : keys)
        if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) allowed.push_back(name);
    }
    if (found) return;
    if (const std::string against = registry_.reason_against(key); !against.empty())
      problems_.add(value.origin, section.key + "." + key + " " + against);
    else
      problems_.add_unknown(value.origin, "parameter", key, only.empty() ? section.key : only, allowed);
  }

  void add_no_entries(const Section& section, const YamlNode& value) {
    problems_.add(value.origin, fmt::format("the configuration has no {} to set this in", section.key));
  }

  [[nodiscard]] std::vector<std::string> used_names(const Section& section) const {
    std::vector<std::string> names;
    const YamlNode* list = root_.find(section.key);
    if (list == nullptr || !list->is_list()) return names;
    for (const YamlNode& entry : list->items) names.push_back(entry_name(entry, section));
    return names;
  }

  void assign_by_name(const std::string& text, const ConfigPath& path, const YamlNode& value) {
    if (path.index < 0 && !path.rest.empty())
      for (const Section* section : all_sections()) {
        const std::vector<std::string> names = used_names(*section);
        if (std::find(names.begin(), names.end(), path.head) != names.end())
          return assign_all(*section, path.rest, value, path.head);
      }
    add_unknown_path(text, path, value);
  }

  void add_unknown_path(const std::string& text, const ConfigPath& path, const YamlNode& value) {
    std::vector<std::string> allowed = {"name",  "seed",     "trials",   "timing", "inputs",
                                        "sweep", "backends", "measures", "output"};
    if (const std::string against = registry_.reason_against(path.head);
        path.rest.empty() && !against.empty())
      return problems_.add(value.origin, path.head + " " + against);
    if (path.rest.empty()) {
      for (const Section* section : {&inputs_section(), &backends_section()})
        for (const std::string& name : used_names(*section))
          if (find_spec(section->specs(registry_, name), path.head) != nullptr) {
            problems_.add(value.origin,
                          fmt::format("'{}' is a parameter of {}: write {}.{}, or sweep.{} for an axis", text,
                                      section->key, section->key, text, text));
            return;
          }
    }
    for (const Section* section : all_sections())
      for (const std::string& name : used_names(*section))
        if (!name.empty()) allowed.push_back(name);
    problems_.add_unknown(value.origin, "path", path.rest.empty() ? text : path.head, "", allowed);
  }

  YamlNode& root_;
  const Registry& registry_;
  Problems& problems_;
};

bool is_name(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
}

}  // namespace

namespace {

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// The place of the first # that YAML takes for the beginning of a comment, outside of quotes; npos if there
/// is none.
size_t find_comment(const std::string& text) {
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char before = i == 0 ? ' ' : text[i - 1];
    const bool starts = std::string(" \t\n[]{},:").find(before) != std::string::npos;
    if (quote != 0) {
      if (quote == '"' && text[i] == '\\')
        ++i;
      else if (text[i] == quote)
        quote = 0;
    } else if (starts && (text[i] == '"' || text[i] == '\'')) {
      quote = text[i];
    } else if (text[i] == '#' && std::isspace(static_cast<unsigned char>(before)) != 0) {
      return i;
    }
  }
  return std::string::npos;
}

/// The value of an argument. The shell has taken its own quotes and comments away, so a text is meant as it
/// stands: what YAML would drop of it (a comment, an anchor, a second space) stays.
YamlNode parse_value(const std::string& raw, const Origin& origin, Problems& problems) {
  const std::string text = trimmed(raw);
  YamlNode value = parse_yaml(text, origin, problems);
  const bool in_quotes = !text.empty() && (text[0] == '"' || text[0] == '\'');
  const bool is_word = value.kind == YamlNode::Kind::null || (value.is_scalar() && !in_quotes);
  const std::string read = value.kind == YamlNode::Kind::null ? "" : value.text;
  const bool is_null_word = value.kind == YamlNode::Kind::null && !value.text.empty();
  if (is_word && read != text && !(is_null_word && find_comment(text) == std::string::npos)) {
    value = {};
    value.kind = YamlNode::Kind::scalar;
    value.text = text;
    value.quoted = true;
  } else if (!is_word && find_comment(text) != std::string::npos) {
    problems.add(
        origin,
        "holds ' #', which begins a comment in YAML; put the text that it belongs to in quotes inside "
        "the value");
  }
  return value;
}

}  // namespace

ConfigPath parse_path(const std::string& path) {
  ConfigPath result;
  const size_t dot = path.find('.');
  result.head = path.substr(0, dot);
  if (dot != std::string::npos) result.rest = path.substr(dot + 1);
  const size_t bracket = result.head.find('[');
  if (bracket != std::string::npos) {
    const std::string digits = result.head.substr(bracket + 1);
    const char* last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, result.index);
    result.well_formed = error == std::errc() && result.index >= 0 && std::string(end, last) == "]";
    result.head.resize(bracket);
  }
  const bool rest_missing = dot != std::string::npos && result.rest.empty();
  result.well_formed = result.well_formed && is_name(result.head) && !rest_missing;
  return result;
}

Assignment parse_assignment(const std::string& argument, Problems& problems) {
  const Origin origin{Layer::command_line, 0, argument};
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) {
    problems.add(origin, "is not of the form KEY=VALUE, such as trials=5 or sweep.seq_len=[4096, 8192]");
    return {};
  }
  Assignment assignment;
  assignment.path = argument.substr(0, equals);
  const size_t before = problems.size();
  assignment.value = parse_value(argument.substr(equals + 1), origin, problems);
  if (problems.size() != before) return {};
  set_origin(assignment.value, origin);
  return assignment;
}

void assign(YamlNode& root, const Assignment& assignment, const Registry& registry, Problems& problems) {
  Assigner(root, registry, problems).assign(assignment.path, assignment.value);
}

void apply_group(YamlNode& root, const std::string& name, const Registry& registry, Problems& problems) {
  const YamlNode* groups = root.find("groups");
  const YamlNode* group = groups == nullptr ? nullptr : groups->find(name);
  if (group == nullptr || !group->is_map()) return;  // the reader refuses it
  for (const YamlField& field : std::vector<YamlField>(group->fields)) {
    Assignment assignment{field.key, field.value};
    set_origin(assignment.value, {Layer::group, 0, {}});
    assign(root, assignment, registry, problems);
  }
}

}  // namespace hyperattn
