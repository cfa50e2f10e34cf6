// A measure is a declaration and a function.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "experiments/measures/context.h"
#include "experiments/measures/measure.h"

namespace hyperattn {

struct MeasureDescription {
  std::string name;
  std::string meaning;
  std::vector<ParameterSpec> parameters;
  std::vector<FigureSpec> figures;
  std::vector<FigureRow> (*compute)(MeasureContext& context, const Parameters& parameters) = nullptr;
  bool is_of_times = false;
};

class DescribedMeasure final : public Measure {
 public:
  explicit DescribedMeasure(MeasureDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const override { return description_.name; }
  [[nodiscard]] const std::string& meaning() const override { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const override {
    return description_.parameters;
  }
  [[nodiscard]] const std::vector<FigureSpec>& figures() const override { return description_.figures; }
  [[nodiscard]] bool is_of_times() const override { return description_.is_of_times; }
  [[nodiscard]] std::vector<FigureRow> compute(MeasureContext& context,
                                               const Parameters& parameters) const override {
    return description_.compute(context, parameters);
  }

 private:
  MeasureDescription description_;
};

/// Puts the trial's row before the heads' rows: of each figure the maximum over heads, the mean where the
/// name ends in `_mean`, the minimum where it ends in `_min`; NaN where any head has NaN. Of `norm_status`
/// the worst.
[[nodiscard]] std::vector<FigureRow> with_trial_row(std::vector<FigureRow> heads);

/// The rows of a measure that works head by head: `head_row` fills in the figures, and the trial's row is
/// added.
[[nodiscard]] std::vector<FigureRow> rows_of_heads(
    MeasureContext& context, const std::function<void(int64_t head, FigureRow& row)>& head_row);

/// Rows of the causal levels, each figure the largest of all that were noted for it (NaN stays).
class LevelRows {
 public:
  /// Level 0, a problem without causal mask, is not noted.
  void note(int level, const std::string& figure, double value);
  void append_to(std::vector<FigureRow>& rows) const;

 private:
  std::map<int, FigureRow> rows_;
};

/// The larger one; NaN if either is.
[[nodiscard]] double larger(double a, double b);

/// The smallest c ≥ 0 with value ≤ c · scale: value / scale, but 0 where both are 0.
[[nodiscard]] double smallest_factor(double value, double scale);

/// norm_status and norm_residual of a head: the worst of all norms that its figures rest on, so far.
void set_norm_figures(MeasureContext& context, int64_t head, FigureRow& row);

}  // namespace hyperattn
