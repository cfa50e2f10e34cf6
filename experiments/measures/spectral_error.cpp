// The error E = PV − P̃V against the paper's inequality (1).
#include <cmath>

#include "core/eigen.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/level_errors.h"
#include "experiments/measures/measures.h"

namespace hyperattn {
namespace {

void fill_head(MeasureContext& context, int64_t head, FigureRow& row) {
  ExactQuantities& exact = context.exact;
  const RowMajorMatrix<double> error =
      as_eigen(exact.output(head)) - as_eigen(context.forward.result.out.matrix(head)).cast<double>();
  const OperatorNorm error_norm = direct_norm(view_of(error));
  const OperatorNorm& softmax_norm = exact.softmax_norm(head);
  context.add_norm(head, error_norm);
  context.add_norm(head, softmax_norm);
  row.figures["error_op"] = error_norm.value;
  row.figures["norm_softmax"] = softmax_norm.value;
  row.figures["norm_softmax_upper"] = exact.softmax_norm_upper(head);
  row.figures["norm_value"] = exact.value_norm(head);
  row.figures["epsilon"] = smallest_factor(error_norm.value, softmax_norm.value * exact.value_norm(head));
  row.figures["error_op_rel"] = smallest_factor(error_norm.value, exact.output_norm(head));
  row.figures["error_fro_rel"] =
      smallest_factor(frobenius_norm(view_of(error)), exact.output_frobenius(head));
  row.figures["error_max"] = error.cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  set_norm_figures(context, head, row);
}

// Figures of the part of E that a level adds.
void note_level(MeasureContext& context, int64_t head, const LevelError& error, LevelRows& levels) {
  ExactQuantities& exact = context.exact;
  const RowMajorMatrix<double> part =
      as_eigen(error.numerator) - as_eigen(error.denominator).asDiagonal() * as_eigen(exact.output(head));
  const double norm = direct_norm(view_of(part)).value;
  const double scale = exact.softmax_norm(head).value * exact.value_norm(head);
  levels.note(error.level, "error_op", norm);
  levels.note(error.level, "epsilon", smallest_factor(norm, scale));
  levels.note(error.level, "error_op_rel", smallest_factor(norm, exact.output_norm(head)));
  levels.note(error.level, "error_fro_rel",
              smallest_factor(frobenius_norm(view_of(part)), exact.output_frobenius(head)));
  levels.note(error.level, "error_max", part.cwiseAbs().maxCoeff<Eigen::PropagateNaN>());
}

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  std::vector<FigureRow> rows =
      rows_of_heads(context, [&](int64_t head, FigureRow& row) { fill_head(context, head, row); });
  LevelRows levels;
  if (divides_by_own_sums(context))
    for_each_level_error(
        context, [&](int64_t head, const LevelError& error) { note_level(context, head, error, levels); });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& spectral_error_measure() {
  static const DescribedMeasure measure({
      "spectral_error",
      "the output's error in operator norm against the paper's inequality (1)",
      {},
      {FigureSpec{"error_op", "‖E‖_op, E = PV − P̃V"}.error(),
       {"norm_softmax", "‖P‖_op, a lower bound to a relative 1e-3"},
       {"norm_softmax_upper", "√(largest column sum of P), a rigorous upper bound of ‖P‖_op"},
       {"norm_value", "‖V‖_op"},
       FigureSpec{"epsilon", "‖E‖/(‖P‖‖V‖): the paper's inequality (1)"}.headline().error(),
       FigureSpec{"error_op_rel", "‖E‖_op/‖PV‖_op"}.headline().error(),
       FigureSpec{"error_fro_rel", "‖E‖_F/‖PV‖_F"}.error(),
       FigureSpec{"error_max", "largest |E_ij|"}.error(),
       FigureSpec{"norm_status", "whether the norms converged: converged, not_converged or not_finite"}
           .text(),
       {"norm_residual", "largest relative residual of the norms"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
