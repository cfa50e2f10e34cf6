#include <fmt/core.h>

#include <map>

#include "algorithms/backend.h"
#include "algorithms/problem.h"
#include "core/error.h"
#include "experiments/config/grid.h"

namespace hyperattn {
namespace {

constexpr size_t kShown = 20;

/// What is wrong with some cases: told once, with their number and one example.
struct Finding {
  Blame blame = Blame::usage;
  std::string what;
  bool concerns_shape = false;  ///< `where:` can drop it
  int64_t count = 0;
  std::string example;
};

class Findings {
 public:
  void add(Blame blame, const std::string& what, const std::string& example, bool concerns_shape) {
    const auto [found, is_new] = index_.try_emplace(what, all_.size());
    if (is_new) all_.push_back({blame, what, concerns_shape, 0, example});
    ++all_[found->second].count;
  }

  void throw_if_any(const ExperimentConfig& config) const {
    if (all_.empty()) return;
    std::string text;
    Blame blame = Blame::input;
    bool where_helps = false;
    for (size_t i = 0; i < all_.size(); ++i) {
      const Finding& finding = all_[i];
      if (finding.blame == Blame::usage) blame = Blame::usage;
      where_helps = where_helps || finding.concerns_shape;
      if (i < kShown) text += (i == 0 ? "" : "\n") + line(config, finding);
    }
    if (all_.size() > kShown) text += fmt::format("\n… and {} more", all_.size() - kShown);
    if (where_helps && !config.sweep.empty())
      text +=
          "\nCombinations that make no sense can be dropped with where: in sweep, for example where: "
          "['sample_size <= key_len']";
    throw Error(blame, text);
  }

 private:
  static std::string line(const ExperimentConfig& config, const Finding& finding) {
    const std::string cases = finding.count == 1 ? "" : std::to_string(finding.count) + " cases, the first: ";
    return fmt::format("{}: {} ({}{})", config.file, finding.what, cases, finding.example);
  }

  std::map<std::string, size_t> index_;
  std::vector<Finding> all_;
};

/// Whether the input point can be made at all.
bool check_input(const InputPoint& input, const std::string& example, Findings& findings) {
  try {
    (void)input.source->shapes(input.parameters);
    check_problem(problem_of(input));
    return true;
  } catch (const Error& error) {
    if (error.blame() == Blame::environment) throw;
    findings.add(error.blame(), fmt::format("input '{}': {}", input.label, error.what()), example, false);
    return false;
  }
}

void check_case(const InputPoint& input, const Case& grid_case, Findings& findings) {
  const std::string example = describe_case(input, grid_case);
  const std::string name = fmt::format("backend '{}' ", grid_case.backend->name());
  const std::string no_gradient = grid_case.backend->no_gradient(grid_case.parameters);
  if (grid_case.pass == PassKind::forward_backward && !no_gradient.empty())
    findings.add(Blame::usage, fmt::format("{}{}, but timing.pass is forward_backward", name, no_gradient),
                 example, true);
  const std::string wrong = grid_case.backend->check(problem_of(input), grid_case.parameters);
  if (!wrong.empty()) findings.add(Blame::usage, name + wrong, example, true);
}

}  // namespace

void validate_cases(const ExperimentConfig& config, const Grid& grid) {
  Findings findings;
  const InputPoint* checked = nullptr;
  bool usable = false;
  for (const Case& grid_case : grid.cases) {
    const InputPoint& input = grid.inputs[grid_case.input];
    if (&input != checked) usable = check_input(input, describe_case(input, grid_case), findings);
    checked = &input;
    if (usable) check_case(input, grid_case, findings);
  }
  findings.throw_if_any(config);
}

}  // namespace hyperattn
