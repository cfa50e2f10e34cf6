#include <set>
#include <sstream>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {
namespace {

// More combinations take seconds under the sanitizers and show nothing new.
constexpr double kMostCombinations = 2000;

struct Call {
  std::string yaml;
  std::vector<std::string> overrides;
};

Call split(const std::string& bytes) {
  Call call;
  std::istringstream lines(bytes);
  bool in_yaml = true;
  for (std::string line; std::getline(lines, line);) {
    if (in_yaml && line == "%%")
      in_yaml = false;
    else if (in_yaml)
      call.yaml += line + "\n";
    else
      call.overrides.push_back(line);
  }
  return call;
}

/// Sources that open no file: what a path of the fuzzer's leads to is another target's business.
bool opens_files(const ExperimentConfig& config) {
  for (const InputEntry& input : config.inputs)
    if (input.source->name() == "file" || input.source->name() == "language_model") return true;
  return false;
}

double combinations(const ExperimentConfig& config) {
  double count = static_cast<double>(config.inputs.size() * config.backends.size());
  for (const SweepDimension& dimension : config.sweep) count *= static_cast<double>(dimension.size());
  return count;
}

void check_grid(const ExperimentConfig& config) {
  if (opens_files(config) || combinations(config) > kMostCombinations) return;
  const Grid grid = expand_grid(config);
  std::set<std::string> ids;
  for (const Case& grid_case : grid.cases) {
    promise(ids.insert(grid_case.id).second, "a case occurs once");
    promise(grid_case.input < grid.inputs.size(), "a case has its input");
  }
  validate_cases(config, grid);
}

/// The resolved text is what a resumed run is compared with: it must be read as the same experiment.
void check_resolved(const ExperimentConfig& config) {
  const std::string& text = config.resolved_yaml;
  std::string again;
  const bool accepted = reads_or_refuses([&] { again = read_config_text(text, config.file).resolved_yaml; });
  promise(accepted, "the resolved configuration is a configuration:\n" + text);
  promise(again == text, "the resolved configuration reads as itself:\n" + text + "\nbut became\n" + again);
}

}  // namespace

void run_config(const std::string& bytes) {
  const Call call = split(bytes);
  reads_or_refuses([&] {
    const ExperimentConfig config = read_config_text(call.yaml, "fuzz.yaml", call.overrides);
    check_resolved(config);
    check_grid(config);
  });
}

}  // namespace hyperattn::fuzz
