// One row of the results, with everything that hangs on it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/parameters.h"
#include "experiments/measures/measure.h"
#include "experiments/results/schema.h"

namespace hyperattn {

/// A row of columns of `trial_columns()`; all start as "does not apply". Names and kinds are checked: a wrong
/// one is a mistake of ours and throws std::logic_error.
class RowValues {
 public:
  void set_integer(const std::string& column, int64_t value);
  void set_number(const std::string& column, double value);
  /// Texts are cut at 1000 bytes, between UTF-8 characters.
  void set_text(const std::string& column, const std::string& value);
  void set_seed(const std::string& column, uint64_t value);

  [[nodiscard]] int64_t integer(const std::string& column) const;          ///< −1 if never set
  [[nodiscard]] double number(const std::string& column) const;            ///< NaN if never set
  [[nodiscard]] const std::string& text(const std::string& column) const;  ///< empty if never set
  [[nodiscard]] uint64_t seed(const std::string& column) const;            ///< 0 if never set

  /// Sets the columns that `other` has and this row lacks.
  void fill_from(const RowValues& other);
  void clear(const std::string& column);

  /// Whether the column was ever set.
  [[nodiscard]] bool has(const std::string& column) const;

  /// Equal in every column; NaN equals NaN.
  [[nodiscard]] bool same_as(const RowValues& other) const;

 private:
  /// (index in trial_columns(), value), by index: most rows set few of the columns.
  template <class T>
  using Sparse = std::vector<std::pair<int, T>>;

  Sparse<int64_t> integers_;  ///< seeds, too: the same bits
  Sparse<double> numbers_;
  Sparse<std::string> texts_;
};

/// Figures of one head, or of one level of the causal recursion.
struct DetailRow {
  int64_t head = -1;   ///< flat index; −1 in a level's row: over all heads
  int64_t level = -1;  ///< −1: not a level's row
  RowValues values;
};

struct TimingRow {
  std::string stage;  ///< kTotalStage: the whole call
  int64_t repeat = 0;
  double seconds = 0;
};

/// What identifies a trial within a file.
struct TrialKey {
  std::string case_id;
  int64_t trial = 0;

  auto operator<=>(const TrialKey&) const = default;
};

/// Whether a row may have this status: `ok`, `failed`, or `skipped`, which version 0.1 declared; nothing
/// writes it now, and a row that has it is not done.
[[nodiscard]] bool is_status(const std::string& text);

class TrialRecord {
 public:
  RowValues row;
  std::vector<DetailRow> details;  ///< one per (head, level)
  std::vector<TimingRow> timings;

  [[nodiscard]] TrialKey key() const { return {row.text("case_id"), row.integer("trial")}; }
  [[nodiscard]] bool ok() const;
  /// Sets the status to `ok`, or to `failed` with the reason.
  void succeed();
  void fail(const std::string& message);

  /// Sets the columns of the declared parameters that have a value; truth values become 0 and 1, and a word
  /// in a column of numbers (`auto`) stays NaN, in one of integers −1.
  void set_parameters(const std::vector<ParameterSpec>& specs, const Parameters& parameters);
  /// Puts a measure's row where it belongs: the trial's own columns, or the head's or level's, which are
  /// completed when several measures fill the same one.
  void add(const FigureRow& figures);
  void add_timing(const std::string& stage, int64_t repeat, double seconds) {
    timings.push_back({stage, repeat, seconds});
  }

  /// Equal in every value, details and timings included.
  [[nodiscard]] bool same_as(const TrialRecord& other) const;
};

}  // namespace hyperattn
