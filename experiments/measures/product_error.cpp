// The error of the sampled product under the approximate denominators: the paper's inequality (3).
#include <cmath>

#include "core/eigen.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/level_errors.h"
#include "experiments/measures/measures.h"

namespace hyperattn {
namespace {

// ‖P̃V − D̃⁻¹AV‖_op with D̃⁻¹A = diag(exp(lse − l̃se))·P.
OperatorNorm product_difference(MeasureContext& context, int64_t head) {
  const std::vector<double> log_factors = context.exact.log_ratios(context.forward.result.sums, head);
  const DenseMatrix<double> output = context.exact.output(head);
  RowMajorMatrix<double> difference = as_eigen(context.forward.result.out.matrix(head)).cast<double>();
  for (int64_t i = 0; i < output.rows; ++i) {
    const double factor = std::exp(log_factors[static_cast<size_t>(i)]);
    if (!std::isfinite(factor)) return {factor, NormStatus::not_finite, 0, NAN};
    difference.row(i) -= factor * as_eigen(output).row(i);
  }
  return direct_norm(view_of(difference));
}

void fill_head(MeasureContext& context, int64_t head, FigureRow& row) {
  const OperatorNorm difference = product_difference(context, head);
  const OperatorNorm& softmax_norm = context.exact.softmax_norm(head);
  context.add_norm(head, difference);
  context.add_norm(head, softmax_norm);
  row.figures["epsilon_product"] =
      smallest_factor(difference.value, softmax_norm.value * context.exact.value_norm(head));
  set_norm_figures(context, head, row);
}

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  std::vector<FigureRow> rows =
      rows_of_heads(context, [&](int64_t head, FigureRow& row) { fill_head(context, head, row); });
  LevelRows levels;
  for_each_level_error(context, [&](int64_t head, const LevelError& error) {
    const double scale = context.exact.softmax_norm(head).value * context.exact.value_norm(head);
    levels.note(error.level, "epsilon_product", smallest_factor(direct_norm(error.numerator).value, scale));
  });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& product_error_measure() {
  static const DescribedMeasure measure({
      "product_error",
      "the error of the sampled product against the paper's inequality (3)",
      {},
      {FigureSpec{"epsilon_product",
                  "‖P̃V − diag(exp(lse − l̃se))PV‖_op/(‖P‖‖V‖): inequality (3); ∞ where it overflows"}
           .headline()
           .error(),
       FigureSpec{"norm_status", "whether the norms converged: converged, not_converged or not_finite"}
           .text(),
       {"norm_residual", "largest relative residual of the norms"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
