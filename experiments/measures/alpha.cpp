// The paper's α: how much of the softmax mass one key can hold (section 3).
#include <cmath>
#include <limits>

#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"
#include "experiments/measures/softmax_operator.h"

namespace hyperattn {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<FigureRow> compute(MeasureContext& context, const Parameters& parameters) {
  const AttentionProblem& problem = context.problem();
  const int64_t skip = parameters.integer("skip_columns");
  std::vector<double> of_nodes(static_cast<size_t>(problem.heads()), kNaN);
  LevelRows levels;
  if (problem.causal)
    for (const HeadNode& place : context.approximated_nodes()) {
      const double alpha = context.exact.node_alpha(place);
      double& largest = of_nodes[static_cast<size_t>(place.head)];
      largest = std::isnan(largest) ? alpha : larger(largest, alpha);
      levels.note(place.node.level, "alpha_node", alpha);
    }
  std::vector<FigureRow> rows = rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    const std::vector<double>& columns = context.exact.sums(head).log_column_square_sum;
    row.figures["alpha"] = column_alpha(columns, problem.query_count());
    row.figures["alpha_skip"] = skip > 0 ? column_alpha(columns, problem.query_count(), skip) : kNaN;
    row.figures["alpha_node"] = of_nodes[static_cast<size_t>(head)];
  });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& alpha_measure() {
  static const DescribedMeasure measure({
      "alpha",
      "the largest squared column norm of the softmax matrix, against the uniform one",
      {integer_parameter(
           "skip_columns",
           "alpha_skip leaves out this many first keys (the paper leaves out 32); 0: no alpha_skip")
           .at_least(0)
           .by_default(0)},
      {FigureSpec{"alpha", "(n_k²/n_q)·max_j ‖P e_j‖²: 1 where attention is uniform"}.headline(),
       {"alpha_skip",
        "alpha without the first skip_columns columns; NaN where none is left out or none left"},
       FigureSpec{"alpha_node",
                  "causal: largest alpha of the approximated cross nodes, each under its own softmax"}
           .headline()},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
