#include "experiments/config/resolved_yaml.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "algorithms/backend.h"
#include "core/text.h"
#include "experiments/config/sweep_reader.h"
#include "experiments/files/json_file.h"
#include "experiments/inputs/input_source.h"
#include "experiments/measures/measure.h"

namespace hyperattn {
namespace {

// Words that YAML readers take for something else than text.
bool is_reserved_word(const std::string& text) {
  std::string lower;
  for (char c : text) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const std::vector<std::string> reserved = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  return std::find(reserved.begin(), reserved.end(), lower) != reserved.end();
}

/// Plain where any YAML reader sees text, else in double quotes (a JSON string is a YAML scalar).
std::string write_text(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '/');
  };
  const bool starts_as_word = !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) != 0 ||
                                                text[0] == '/' || text[0] == '_');
  const bool simple =
      starts_as_word && std::all_of(text.begin(), text.end(), plain) && !is_reserved_word(text);
  return simple ? text : json_quoted(text);
}

std::string write_value(const ParameterValue& value) {
  const auto* text = std::get_if<std::string>(&value);
  return text == nullptr ? to_string(value) : write_text(*text);
}

std::string write_list(const std::vector<ParameterValue>& values) {
  return "[" + join_of(values, write_value) + "]";
}

bool is_swept(const ExperimentConfig& config, bool of_inputs, size_t entry, const std::string& parameter) {
  for (const SweepDimension& dimension : config.sweep)
    for (const Axis& axis : dimension.axes)
      if (axis.of_inputs == of_inputs && axis.parameter == parameter &&
          std::find(axis.entries.begin(), axis.entries.end(), entry) != axis.entries.end())
        return true;
  return false;
}

class Writer {
 public:
  Writer(const ExperimentConfig& config, const std::vector<EntryDraft>& inputs,
         const std::vector<EntryDraft>& backends, const Registry& registry)
      : config_(config), inputs_(inputs), backends_(backends), registry_(registry) {}

  std::string write() {
    line("name: " + write_text(config_.name));
    line("seed: " + std::to_string(config_.seed));
    line("trials: " + std::to_string(config_.trials));
    if (registry_.reason_against("timing").empty()) write_timing();
    line("inputs:");
    for (size_t i = 0; i < config_.inputs.size(); ++i) write_input(i);
    write_sweep();
    line("backends:");
    for (size_t i = 0; i < config_.backends.size(); ++i) {
      line("  - name: " + config_.backends[i].backend->name());
      write_parameters(config_.backends[i].parameters, false, i);
    }
    write_measures();
    line("output: " + write_text(config_.output));
    return text_;
  }

 private:
  void line(const std::string& text) { text_ += text + "\n"; }

  void write_timing() {
    const TimingConfig& timing = config_.timing;
    line("timing:");
    line("  warmup: " + std::to_string(timing.warmup));
    line("  repeats: " + (timing.adaptive ? "auto" : std::to_string(timing.repeats)));
    if (timing.adaptive) {
      line("  relative_error: " + to_string(timing.relative_error));
      line("  min_repeats: " + std::to_string(timing.min_repeats));
      line("  max_repeats: " + std::to_string(timing.max_repeats));
    }
    line(std::string("  pass: ") + pass_name(timing.pass));
  }

  void write_input(size_t i) {
    const InputEntry& entry = config_.inputs[i];
    line("  - source: " + entry.source->name());
    line("    label: " + write_text(entry.label));
    write_parameters(entry.parameters, true, i);
  }

  void write_parameters(const Parameters& parameters, bool of_inputs, size_t entry) {
    for (const auto& [name, value] : parameters.all())
      if (!is_swept(config_, of_inputs, entry, name)) line("    " + name + ": " + write_value(value));
  }

  void write_sweep() {
    if (config_.sweep.empty() && config_.where.empty()) return;
    line("sweep:");
    bool zips_written = false;
    for (const SweepDimension& dimension : config_.sweep) {
      if (!zipped(dimension))
        write_axis(dimension.axes.front(), "  ");
      else if (!std::exchange(zips_written, true))
        write_zips();
    }
    if (!config_.where.empty()) line("  where:");
    for (const WhereExpression& predicate : config_.where) line("    - " + json_quoted(predicate.text()));
  }

  static bool zipped(const SweepDimension& dimension) { return dimension.axes.size() > 1; }

  void write_zips() {
    line("  zip:");
    for (const SweepDimension& dimension : config_.sweep) {
      if (!zipped(dimension)) continue;
      line("    -");
      for (const Axis& axis : dimension.axes) write_axis(axis, "      ");
    }
  }

  void write_axis(const Axis& axis, const std::string& indent) {
    for (const std::string& path : paths(axis))
      line(indent + write_key(path) + ": " + write_list(axis.values));
  }

  static std::string write_key(const std::string& path) {
    return path.find('[') == std::string::npos ? path : json_quoted(path);
  }

  /// The axis's own path where that still reaches exactly the entries that the axis kept, else one for each.
  std::vector<std::string> paths(const Axis& axis) const {
    const AxisTarget target = find_axis_target(axis.path, inputs_, backends_, registry_);
    if (target.entries == axis.entries) return {axis.path};
    std::vector<std::string> all;
    for (size_t entry : axis.entries)
      all.push_back((axis.of_inputs ? "inputs[" : "backends[") + std::to_string(entry) + "]." +
                    axis.parameter);
    return all;
  }

  void write_measures() {
    line(config_.measures.empty() ? "measures: []" : "measures:");
    for (const MeasureEntry& entry : config_.measures) {
      line("  - name: " + entry.measure->name());
      for (const auto& [name, value] : entry.parameters.all())
        line("    " + name + ": " + write_value(value));
    }
  }

  const ExperimentConfig& config_;
  const std::vector<EntryDraft>& inputs_;
  const std::vector<EntryDraft>& backends_;
  const Registry& registry_;
  std::string text_;
};

}  // namespace

std::string write_resolved_yaml(const ExperimentConfig& config, const std::vector<EntryDraft>& inputs,
                                const std::vector<EntryDraft>& backends, const Registry& registry) {
  return Writer(config, inputs, backends, registry).write();
}

}  // namespace hyperattn
