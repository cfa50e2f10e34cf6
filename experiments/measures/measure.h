// What is measured of a trial. Adding a measure is a file in this folder and a line in measure.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "algorithms/backend.h"
#include "core/parameters.h"

namespace hyperattn {

/// One column of the results: what a measure fills, or the runner.
struct FigureSpec {
  std::string name;          ///< column name, fixed by docs/results-format.md
  std::string meaning;       ///< one line
  std::string unit = {};     ///< empty: a ratio, a count, or a text
  bool is_headline = false;  ///< shown unless all figures are asked for
  bool is_error = false;     ///< says how wrong a result is: smaller is better, and plots offer it
  bool is_text = false;      ///< a word, such as norm_status; else a number

  // A copy with one more thing said: FigureSpec{"epsilon", "…"}.headline().error().
  [[nodiscard]] FigureSpec in_unit(const std::string& name_of_unit) const;
  [[nodiscard]] FigureSpec headline() const;
  [[nodiscard]] FigureSpec error() const;
  [[nodiscard]] FigureSpec text() const;
};

/// Figures of one head (flat index) or, where `level` ≥ 0, of one level of the causal recursion; `head` −1 is
/// the whole trial (the maximum over heads unless the name says otherwise).
struct FigureRow {
  int64_t head = -1;
  int64_t level = -1;
  std::map<std::string, double> figures;
  std::map<std::string, std::string> texts;  ///< such as norm_status
};

struct MeasureContext;  // measures/context.h: problem, backend, its output, and exact quantities computed
                        // once and shared

class Measure {
 public:
  virtual ~Measure() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;
  [[nodiscard]] virtual const std::vector<FigureSpec>& figures() const = 0;

  /// Whether its figures come from the times of the calls, which whoever makes the calls takes; `compute` has
  /// none of them then.
  [[nodiscard]] virtual bool is_of_times() const { return false; }

  /// One row for the trial (head −1), then one per head, then, for causal problems, one per level.
  [[nodiscard]] virtual std::vector<FigureRow> compute(MeasureContext& context,
                                                       const Parameters& parameters) const = 0;
};

[[nodiscard]] const std::vector<const Measure*>& all_measures();
[[nodiscard]] const Measure* find_measure(const std::string& name);

}  // namespace hyperattn
