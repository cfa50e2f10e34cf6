// Results seen case by case, for people: which parameters tell the cases apart, and the trials of each.
#pragma once

#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace hyperattn {

/// Whether all rows are of `hyperattn lm`.
[[nodiscard]] bool is_language_model(const ResultsFile& results);

/// The parameter columns that take more than one value among the file's rows, at least `backend`; without
/// those that follow from the others.
[[nodiscard]] std::vector<ColumnSpec> varying_parameters(const ResultsFile& results);

/// One column's value as text; empty where it does not apply.
[[nodiscard]] std::string value_text(const RowValues& row, const ColumnSpec& column);

/// "hyper seq_len=4096 sample_size=128", from these columns where they apply.
[[nodiscard]] std::string label_of(const RowValues& row, const std::vector<ColumnSpec>& columns);

/// The trials of one case that have a row.
struct CaseTrials {
  std::string case_id;
  std::vector<const TrialRecord*> trials;

  [[nodiscard]] const RowValues& first() const { return trials.front()->row; }
  [[nodiscard]] int64_t ok_count() const;
  /// The column's values of the trials with status `ok`, NaN left out.
  [[nodiscard]] std::vector<double> values(const std::string& column) const;
  /// Seconds of every repeat of the whole call, of the trials with status `ok`.
  [[nodiscard]] std::vector<double> repeats() const;
};

/// In the plan's order; cases without a row are left out. Points into `results`.
[[nodiscard]] std::vector<CaseTrials> trials_by_case(const ResultsFile& results);

}  // namespace hyperattn
