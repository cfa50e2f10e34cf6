#include "experiments/config/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/text.h"
#include "experiments/config/effects.h"
#include "experiments/config/overrides.h"
#include "experiments/config/resolved_yaml.h"
#include "experiments/config/sweep_reader.h"
#include "experiments/config/values.h"
#include "experiments/files/read_log.h"

namespace hyperattn {
namespace {

constexpr size_t kMaximumNameBytes = 200;
constexpr const char* kDefaultGroup = "base";

const std::vector<std::string>& top_level_keys() {
  static const std::vector<std::string> keys = {"name",  "seed",     "trials",   "timing", "inputs",
                                                "sweep", "backends", "measures", "output", "groups"};
  return keys;
}

/// Text of limited length without control characters, as a name that is stored and printed has to be.
std::string read_name(const YamlNode& node, const std::string& path, Problems& problems) {
  const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7F; };
  const bool good = node.is_scalar() && !node.text.empty() && node.text.size() <= kMaximumNameBytes &&
                    std::none_of(node.text.begin(), node.text.end(), control);
  if (good) return node.text;
  problems.add(node.origin,
               fmt::format("{} must be text of 1 to {} bytes in one line, but is {}", path, kMaximumNameBytes,
                           node.is_scalar() ? std::to_string(node.text.size()) + " bytes" : describe(node)));
  return {};
}

/// Reads one tree that has the group and the overrides applied.
class ConfigReader {
 public:
  ConfigReader(const YamlNode& root, const std::string& file, const Registry& registry, Problems& problems)
      : root_(root), registry_(registry), problems_(problems) {
    config_.file = file;
  }

  ExperimentConfig read() {
    refuse_unknown_keys();
    read_scalars();
    read_timing();
    const std::vector<EntryDraft> inputs = read_required(inputs_section());
    const std::vector<EntryDraft> backends = read_required(backends_section());
    const SweepDraft sweep = read_sweep(root_, inputs, backends, registry_, problems_);
    config_.sweep = sweep.dimensions;
    config_.where = sweep.where;
    require(inputs, true, sweep.refused);
    require(backends, false, sweep.refused);
    refuse_ineffective(inputs, backends, config_.sweep, problems_);
    read_measures();
    if (!problems_.empty()) return config_;
    take_inputs(inputs);
    for (const EntryDraft& draft : backends)
      config_.backends.push_back({registry_.find_backend(draft.name), draft.parameters});
    config_.resolved_yaml = write_resolved_yaml(config_, inputs, backends, registry_);
    return config_;
  }

 private:
  void refuse_unknown_keys() {
    for (const YamlField& field : root_.fields) {
      const auto& keys = top_level_keys();
      if (const std::string against = registry_.reason_against(field.key); !against.empty()) {
        const bool says_nothing = field.value.is_list() && field.value.items.empty();
        if (!says_nothing && !registry_.reads_stored) problems_.add(field.origin, field.key + " " + against);
        continue;
      }
      if (std::find(keys.begin(), keys.end(), field.key) != keys.end()) continue;
      if (field.key == "where" || field.key == "zip")
        problems_.add(field.origin,
                      fmt::format("'{}' belongs in sweep: write sweep: {{{}: …}}", field.key, field.key));
      else
        problems_.add_unknown(field.origin, "key", field.key, "", keys);
    }
  }

  void read_scalars() {
    config_.name = std::filesystem::path(config_.file).stem().string();
    if (const YamlNode* node = root_.find("name")) config_.name = read_name(*node, "name", problems_);
    if (config_.name.find('/') != std::string::npos)
      problems_.add(root_.find("name")->origin, "name must not hold '/': it names the results file");
    if (const YamlNode* node = root_.find("seed")) config_.seed = read_seed(*node, problems_);
    config_.trials = read_trials();
    config_.output = "results/" + config_.name + ".h5";
    if (const YamlNode* node = root_.find("output")) config_.output = read_output(*node);
  }

  int64_t read_trials() {
    const ParameterSpec& spec = *find_spec(run_parameters(), "trials");
    std::optional<ParameterValue> value = spec.default_value;
    if (const YamlNode* node = root_.find("trials")) value = read_value(*node, spec, "trials", problems_);
    return value ? std::get<int64_t>(*value) : 1;
  }

  std::string read_output(const YamlNode& node) {
    if (node.is_scalar() && !node.text.empty()) return node.text;
    problems_.add(node.origin, "output must be the path of the results file, but is " + describe(node));
    return {};
  }

  void read_timing() {
    EntryDraft draft;
    draft.path = "timing";
    draft.specs = timing_parameters();
    draft.parameters = default_parameters(draft.specs);
    const YamlNode* node = registry_.reason_against("timing").empty() ? root_.find("timing") : nullptr;
    if (node != nullptr) {
      if (node->is_map())
        read_parameters(*node, {}, draft, problems_);
      else
        problems_.add(node->origin, "timing must be a map, but is " + describe(*node));
    }
    check_timing(draft);
    TimingConfig& timing = config_.timing;
    timing.parameters = draft.parameters;
    timing.warmup = draft.parameters.integer("warmup");
    timing.adaptive = draft.parameters.is_text("repeats");
    if (!timing.adaptive) timing.repeats = draft.parameters.integer("repeats");
    timing.pass = draft.parameters.text("pass") == "forward" ? PassKind::forward : PassKind::forward_backward;
    if (!timing.adaptive) return;
    timing.repeats = 0;
    timing.relative_error = draft.parameters.number("relative_error");
    timing.min_repeats = draft.parameters.integer("min_repeats");
    timing.max_repeats = draft.parameters.integer("max_repeats");
  }

  void check_timing(const EntryDraft& draft) {
    refuse_ineffective(draft, problems_);
    const bool adaptive = draft.parameters.is_text("repeats");
    const int64_t low = draft.parameters.integer("min_repeats");
    const int64_t high = draft.parameters.integer("max_repeats");
    if (adaptive && low > high)
      problems_.add(root_.find("timing")->origin,
                    fmt::format("timing.min_repeats ({}) is above timing.max_repeats ({})", low, high));
  }

  std::vector<EntryDraft> read_required(const Section& section) {
    if (root_.find(section.key) == nullptr)
      problems_.add(root_.origin, fmt::format("{} is missing. Allowed: entries with '{}', one of {}",
                                              section.key, section.name_key, join(section.names(registry_))));
    return read_section(root_, section, registry_, problems_);
  }

  void require(const std::vector<EntryDraft>& drafts, bool of_inputs,
               const std::vector<std::string>& refused) {
    for (size_t i = 0; i < drafts.size(); ++i) {
      std::vector<std::string> supplied = refused;
      for (const SweepDimension& dimension : config_.sweep)
        for (const Axis& axis : dimension.axes) {
          const bool reaches = std::find(axis.entries.begin(), axis.entries.end(), i) != axis.entries.end();
          if (axis.of_inputs == of_inputs && reaches) supplied.push_back(axis.parameter);
        }
      require_parameters(drafts[i], supplied, problems_);
    }
  }

  void take_inputs(const std::vector<EntryDraft>& drafts) {
    for (size_t i = 0; i < drafts.size(); ++i) {
      InputEntry entry{registry_.find_source(drafts[i].name), drafts[i].parameters, drafts[i].name};
      if (const YamlNode* label = root_.find("inputs")->items[i].find("label"))
        entry.label = read_name(*label, drafts[i].path + ".label", problems_);
      config_.inputs.push_back(std::move(entry));
    }
  }

  void read_measures() {
    if (!registry_.reason_against("measures").empty()) return;
    if (root_.find("measures") == nullptr) {
      for (const char* name : {"timing", "spectral_error"})
        if (const Measure* measure = registry_.find_measure(name))
          config_.measures.push_back(
              {measure, default_parameters(measures_section().specs(registry_, name))});
      return;
    }
    std::vector<std::string> seen;
    for (const EntryDraft& draft : read_section(root_, measures_section(), registry_, problems_)) {
      if (draft.name.empty()) continue;
      if (std::find(seen.begin(), seen.end(), draft.name) != seen.end())
        problems_.add(draft.origin,
                      fmt::format("{} names '{}' again; its figures would collide", draft.path, draft.name));
      seen.push_back(draft.name);
      require_parameters(draft, {}, problems_);
      refuse_ineffective(draft, problems_);
      config_.measures.push_back({registry_.find_measure(draft.name), draft.parameters});
    }
  }

  const YamlNode& root_;
  const Registry& registry_;
  Problems& problems_;
  ExperimentConfig config_;
};

/// "group=NAME" among the overrides, taken out of them.
std::string take_group(std::vector<Assignment>& assignments, const std::string& group, Problems& problems) {
  std::string chosen = group;
  for (const Assignment& assignment : assignments) {
    if (assignment.path != "group") continue;
    if (!assignment.value.is_scalar())
      problems.add(assignment.value.origin,
                   "group must be the name of a group, but is " + describe(assignment.value));
    chosen = assignment.value.text;
  }
  std::erase_if(assignments, [](const Assignment& assignment) { return assignment.path == "group"; });
  return chosen;
}

std::vector<std::string> group_names(const YamlNode& root, Problems& problems) {
  std::vector<std::string> names;
  const YamlNode* groups = root.find("groups");
  if (groups == nullptr || groups->kind == YamlNode::Kind::null) return names;
  if (!groups->is_map()) {
    problems.add(groups->origin,
                 "groups must be a map from names to assignments, but is " + describe(*groups));
    return names;
  }
  for (const YamlField& field : groups->fields) {
    if (field.value.is_map())
      names.push_back(field.key);
    else
      problems.add(field.value.origin,
                   fmt::format("groups.{} must be a map of assignments such as {{trials: 1}}, but is {}",
                               field.key, describe(field.value)));
  }
  return names;
}

std::string choose_group(const std::string& wanted, const std::vector<std::string>& names,
                         Problems& problems) {
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (wanted.empty()) return has(kDefaultGroup) ? kDefaultGroup : "";
  if (has(wanted)) return wanted;
  problems.add({}, fmt::format("has no group '{}'{}", wanted,
                               names.empty() ? "; it has no groups" : ". Allowed: " + join(names)));
  return {};
}

/// Groups that were not asked for are read, too, so that a mistake in one does not wait for its day.
void check_other_groups(const YamlNode& plain, const std::vector<std::string>& names,
                        const std::string& chosen, const std::string& file, const Registry& registry,
                        Problems& problems) {
  for (const std::string& name : names) {
    if (name == chosen) continue;
    Problems of_group(file);
    YamlNode root = plain;
    apply_group(root, name, registry, of_group);
    (void)ConfigReader(root, file, registry, of_group).read();
    problems.merge(of_group, fmt::format(" (in group {})", name));
  }
}

}  // namespace

const char* pass_name(PassKind pass) {
  return pass == PassKind::forward ? "forward" : "forward_backward";
}

ExperimentConfig read_config_text(const std::string& text, const std::string& file_name,
                                  const std::vector<std::string>& overrides, const std::string& group,
                                  const Registry& registry) {
  Problems problems(file_name);
  YamlNode root = parse_yaml(text, {}, problems);
  if (!root.is_map()) {
    if (problems.empty()) problems.add({}, "must be a map with the keys " + join(top_level_keys()));
    problems.throw_if_any();
  }
  for (const Section* section : all_sections()) write_out_entries(root, *section);
  std::vector<Assignment> assignments;
  for (const std::string& argument : overrides) {
    Assignment assignment = parse_assignment(argument, problems);
    if (!assignment.path.empty()) assignments.push_back(std::move(assignment));
  }
  const YamlNode plain = root;
  const std::vector<std::string> names = group_names(root, problems);
  const std::string chosen = choose_group(take_group(assignments, group, problems), names, problems);
  apply_group(root, chosen, registry, problems);
  for (const Assignment& assignment : assignments) assign(root, assignment, registry, problems);
  ExperimentConfig config = ConfigReader(root, file_name, registry, problems).read();
  config.group = chosen;
  if (problems.empty()) check_other_groups(plain, names, chosen, file_name, registry, problems);
  problems.throw_if_any();
  return config;
}

ExperimentConfig read_config(const std::string& path, const std::vector<std::string>& overrides,
                             const std::string& group, const Registry& registry) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    fail_usage(fmt::format("configuration '{}' does not exist", path));
  if (std::filesystem::is_directory(path, ignored))
    fail_usage(fmt::format("configuration '{}' is a folder; it must be a YAML file", path));
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_usage(fmt::format("configuration '{}' cannot be read", path));
  note_read(path, false);                        // what it says is compared, not its bytes
  std::string text(kMaximumYamlBytes + 1, ' ');  // one more than allowed, so that a longer file is noticed
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) fail_usage(fmt::format("configuration '{}' cannot be read", path));
  text.resize(static_cast<size_t>(file.gcount()));
  return read_config_text(text, path, overrides, group, registry);
}

}  // namespace hyperattn
