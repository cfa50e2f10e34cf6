// Results seen case by case, for people: the trials of each case, and what tells the cases apart. `show`,
// `show --compare` and messages name cases by this one rule: what differs between the cases at hand is their
// name, and what does not is said once.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "experiments/results/results_file.h"

namespace hyperattn {

/// Whether all rows are of `hyperattn lm`.
[[nodiscard]] bool is_language_model(const ResultsFile& results);

/// The trials of one case that have a row.
struct CaseTrials {
  std::string case_id;
  /// Its parameters as text, by column; without those that do not apply or have no effect here.
  std::map<std::string, std::string> parameters;
  std::set<std::string> ineffective;  ///< columns of parameters that have no effect here
  std::set<std::string> at_default;   ///< columns of the backend's parameters that hold their default
  std::vector<const TrialRecord*> trials;

  [[nodiscard]] const RowValues& first() const { return trials.front()->row; }
  [[nodiscard]] int64_t ok_count() const;
  /// The value of a parameter's column, or an empty text.
  [[nodiscard]] const std::string& parameter(const std::string& column) const;
  /// The column's values of the trials with status `ok`, NaN left out.
  [[nodiscard]] std::vector<double> values(const std::string& column) const;
  /// Seconds of every repeat of the whole call, of the trials with status `ok`.
  [[nodiscard]] std::vector<double> repeats() const;
};

using Cases = std::vector<CaseTrials>;

/// The column's value as text; empty where it does not apply.
[[nodiscard]] std::string value_text(const RowValues& row, const ColumnSpec& column);

/// In the plan's order; cases without a row are left out. Points into `results`.
[[nodiscard]] Cases trials_by_case(const ResultsFile& results);

/// "hyper seq_len=4096 block_size=64 …": all parameters that apply; equal for cases that are one problem and
/// one method.
[[nodiscard]] std::string all_parameters(const CaseTrials& entry);

/// Names for the cases of one file, or of several that are seen beside each other.
class CaseNames {
 public:
  /// The name of a column of cases, and how wide its values are at most.
  static constexpr const char* kCase = "case_id";
  static constexpr size_t kWidest = 40;

  explicit CaseNames(const std::vector<const Cases*>& files);

  /// The columns that tell the cases apart, at least `backend`; the last is `case_id` where no parameter
  /// does.
  [[nodiscard]] const std::vector<std::string>& columns() const { return columns_; }
  /// What such a column shows for a case: its value, long ones shortened so that they stay distinct.
  [[nodiscard]] std::string shown(const CaseTrials& entry, const std::string& column) const;
  /// "hyper seq_len=4096 sample_size=128", from `columns` where they apply.
  [[nodiscard]] std::string label(const CaseTrials& entry) const;

  /// (column, value) of what is the same wherever it applies, defaults left out.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& same() const { return same_; }
  /// For inputs that their labels tell apart: (label, "source=file heads=4 …"), what follows from the label.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& inputs() const { return inputs_; }
  /// (shown, whole) of the values that are shortened.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& shortened() const {
    return shortened_;
  }

 private:
  void choose_columns(const Cases& all);
  void say_what_labels_mean(const Cases& all);
  void say_what_is_the_same(const Cases& all);
  void shorten(const Cases& all);

  std::vector<std::string> columns_;
  std::vector<std::string> follow_;  ///< columns of inputs that their labels say
  std::vector<std::pair<std::string, std::string>> same_;
  std::vector<std::pair<std::string, std::string>> inputs_;
  std::vector<std::pair<std::string, std::string>> shortened_;
};

}  // namespace hyperattn
