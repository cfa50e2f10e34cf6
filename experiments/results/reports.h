// What `hyperattn show`, `show --compare` and `merge` do with results files.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace hyperattn {

/// Columns of output that no terminal receives.
inline constexpr size_t kReportWidth = 110;

struct ShowOptions {
  size_t width = kReportWidth;  ///< of the terminal
  bool all = false;             ///< every figure, not only the ones that most readers want
};

/// A summary whose tables are broken at the terminal's width: the run, one line per case (median over its
/// trials), failures.
void show_results(const ResultsFile& results, std::ostream& out, const ShowOptions& options = {});

/// What changed from `a` to `b` in speed and error, case by case, with a two-sided Mann-Whitney test over the
/// raw repeats (speed) and the trials (errors) at 1 %. Cases match by case_id, else by their parameters.
void compare_results(const ResultsFile& a, const ResultsFile& b, std::ostream& out,
                     size_t width = kReportWidth);

/// Writes the union of `inputs` to `path`, and returns it (`missing()` names what no input holds).
/// Error(usage): another configuration or plan, no inputs, or `path` exists and `replace` is false.
/// Error(input): one trial with two different results.
ResultsFile merge_results(const std::string& path, const std::vector<std::string>& inputs, bool replace);

}  // namespace hyperattn
