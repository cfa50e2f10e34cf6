// The error of the denominators against the paper's inequality (2).
#include <algorithm>
#include <cmath>

#include "core/eigen.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/level_errors.h"
#include "experiments/measures/measures.h"
#include "experiments/measures/softmax_operator.h"

namespace hyperattn {
namespace {

// Nine rows of ten are at most this far off.
constexpr double kRowShare = 0.9;

double value_of_most_rows(Eigen::ArrayXd values) {
  if (values.isNaN().any()) return NAN;
  const auto place = std::max<Eigen::Index>(
      static_cast<Eigen::Index>(std::ceil(kRowShare * static_cast<double>(values.size()))) - 1, 0);
  std::nth_element(values.data(), values.data() + place, values.data() + values.size());
  return values[place];
}

// ‖diag(weights)·P‖_op. Signs of rows do not change a norm, so the weights are made positive, which lets
// Lanczos start from a positive vector.
OperatorNorm scaled_softmax_norm(MeasureContext& context, int64_t head, const Eigen::ArrayXd& weights) {
  const double largest = weights.abs().maxCoeff<Eigen::PropagateNaN>();
  if (!std::isfinite(largest)) return {largest, NormStatus::not_finite, 0, NAN};
  if (largest == 0) return {};
  const SoftmaxMatrix p(context.exact.engine(), head_problem(context.problem(), head),
                        context.exact.head_sums(head));
  OperatorNorm norm =
      context.exact.nonnegative_norm(scale_rows(p.as_operator(), to_vector(weights.abs() / largest)), head);
  norm.value *= largest;
  return norm;
}

void fill_head(MeasureContext& context, int64_t head, FigureRow& row) {
  const Eigen::ArrayXd ratio = as_eigen(context.exact.log_ratios(context.forward.result.sums, head));
  const Eigen::ArrayXd error = ratio.unaryExpr([](double x) { return std::expm1(x); });
  const OperatorNorm difference = scaled_softmax_norm(context, head, error);
  const OperatorNorm& softmax_norm = context.exact.softmax_norm(head);
  context.add_norm(head, difference);
  context.add_norm(head, softmax_norm);
  row.figures["epsilon_diagonal"] = difference.value / softmax_norm.value;
  row.figures["error_lse"] = ratio.abs().maxCoeff<Eigen::PropagateNaN>();
  row.figures["epsilon_rows"] =
      value_of_most_rows(ratio.unaryExpr([](double x) { return std::abs(std::expm1(-x)); }));
  set_norm_figures(context, head, row);
}

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  std::vector<FigureRow> rows =
      rows_of_heads(context, [&](int64_t head, FigureRow& row) { fill_head(context, head, row); });
  LevelRows levels;
  if (divides_by_own_sums(context))
    for_each_level_error(context, [&](int64_t head, const LevelError& error) {
      const OperatorNorm norm = scaled_softmax_norm(context, head, as_eigen(error.denominator));
      levels.note(error.level, "epsilon_diagonal", norm.value / context.exact.softmax_norm(head).value);
    });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& diagonal_error_measure() {
  static const DescribedMeasure measure({
      "diagonal_error",
      "the error of the softmax denominators against the paper's inequality (2)",
      {},
      {FigureSpec{"epsilon_diagonal", "‖(D̃⁻¹ − D⁻¹)A‖_op/‖P‖_op: inequality (2); ∞ where it overflows"}
           .headline()
           .error(),
       FigureSpec{"error_lse", "largest |l̃se_i − lse_i|"}.error(),
       FigureSpec{"norm_status", "whether the norms converged: converged, not_converged or not_finite"}
           .text(),
       {"norm_residual", "largest relative residual of the norms"},
       FigureSpec{"epsilon_rows",
                  "|D̃_i/D_i − 1| that nine rows of ten keep to: the ε that clt_epsilon asks for"}
           .error()},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
