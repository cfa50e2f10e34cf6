// What theory promises at the sizes and quantities of this trial. With constants 1 where the paper has Ω:
//
//   Lemma 1   m = κ⁷ α² ln n / ε⁶      →  ε = (κ⁷ α² ln n / m)^(1/6), for ε_diagonal ≤ ε/2
//   Lemma 2   m = d · srank(P) / ε²    →  ε = √(d · srank(P) / m), for ε_product ≤ ε/2
//
// (n = n_k; d is the values' width, since it stands for srank(V) ≤ d) and a bound whose constant is proven:
// for X = D⁻¹A and rows of S drawn i.i.d. with p ∝ ‖v‖²,
//     E‖XSᵀSV − XV‖_F² = (‖X‖_F²‖V‖_F² − ‖XV‖_F²)/m ≤ ‖X‖_F²‖V‖_F²/m,
// so by Markov ε_product ≤ √(srank(P)·srank(V)/(δm)) with probability 1 − δ. Causal nodes are sampled
// independently, so their variances add up.
#include <algorithm>
#include <cmath>
#include <limits>

#include "algorithms/primitives/column_sample.h"
#include "algorithms/residuals/sample_promise.h"
#include "core/eigen.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"
#include "experiments/measures/node_kappa.h"
#include "experiments/measures/softmax_operator.h"

namespace hyperattn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kDelta = 0.01;

double log_lemma_1(double log_kappa, double alpha, int64_t keys, int64_t sample_size) {
  const double log_n = std::log(static_cast<double>(std::max<int64_t>(keys, 2)));
  return (7 * log_kappa + 2 * std::log(alpha) + std::log(log_n / static_cast<double>(sample_size))) / 6;
}

double lemma_2(double stable_rank, int64_t width, int64_t sample_size) {
  return std::sqrt(static_cast<double>(width) * stable_rank / static_cast<double>(sample_size));
}

// ‖X‖_F² of the node's part of D⁻¹A, or of D̃⁻¹A.
double squared_frobenius(MeasureContext& context, const HeadNode& place, bool approximate_division) {
  if (!approximate_division && place.node.level == 0) {
    const double norm = context.exact.softmax_frobenius(place.head);
    return norm * norm;
  }
  const RowSums& sums = approximate_division ? context.forward.result.sums : context.exact.attention().sums;
  const auto own = std::make_shared<const RowSums>(
      part_of(sums, place.head, place.node.query_begin, place.node.query_count()));
  const SoftmaxMatrix p(context.exact.engine(), node_problem(context.problem(), place), own);
  return sum_of_exponentials(p.log_row_square_sums());
}

double squared_value_frobenius(const AttentionProblem& problem, const HeadNode& place) {
  const auto rows = as_eigen(problem.values_of(place.head));
  return rows.middleRows(place.node.key_begin, place.node.key_count()).cast<double>().squaredNorm();
}

// The promises for one head, or for one level of it, as nodes are added.
struct Bounds {
  double log_diagonal = -kInfinity;
  double product = 0;
  double variance = 0;  // bound of E‖XSᵀSV − XV‖_F²

  void add(const Bounds& node) {
    log_diagonal = larger(log_diagonal, node.log_diagonal);
    product = larger(product, node.product);
    variance += node.variance;
  }
};

Bounds node_bounds(MeasureContext& context, const HeadNode& place, const SamplePromise& promise) {
  const AttentionProblem& problem = context.problem();
  if (promise.sample_size == 0) return {kInfinity, kInfinity, kInfinity};
  const int64_t keys = place.node.key_count();
  const int64_t m = std::min(promise.sample_size, keys);
  OperatorNorm norm = place.node.level == 0 ? context.exact.softmax_norm(place.head) : OperatorNorm{};
  const double frobenius = squared_frobenius(context, place, false);
  const double stable_rank = place.node.level == 0 ? frobenius / (norm.value * norm.value)
                                                   : context.exact.node_stable_rank(place, &norm);
  const double alpha =
      place.node.level == 0
          ? column_alpha(context.exact.sums(place.head).log_column_square_sum, problem.query_count())
          : context.exact.node_alpha(place);
  context.add_norm(place.head, norm);
  const double divided = promise.approximate_division ? squared_frobenius(context, place, true) : frobenius;
  double variance =
      promise.variance_factor * divided * squared_value_frobenius(problem, place) / static_cast<double>(m);
  if (std::isnan(variance)) variance = kInfinity;  // a denominator of 0, and values of zero
  return {log_lemma_1(node_log_kappa(context, place), alpha, keys, m),
          lemma_2(stable_rank, problem.value_dim(), m), variance};
}

double provable(MeasureContext& context, int64_t head, double variance) {
  return smallest_factor(std::sqrt(variance / kDelta),
                         context.exact.softmax_norm(head).value * context.exact.value_norm(head));
}

void fill_head(MeasureContext& context, int64_t head, FigureRow& row, LevelRows& levels) {
  ExactQuantities& exact = context.exact;
  const double softmax = exact.softmax_frobenius(head) / exact.softmax_norm(head).value;
  const double value = smallest_factor(exact.value_frobenius(head), exact.value_norm(head));
  row.figures["srank_softmax"] = softmax * softmax;
  row.figures["srank_value"] = value * value;
  row.figures["log_bound_diagonal"] = kNaN;
  row.figures["bound_product"] = kNaN;
  row.figures["bound_product_provable"] = kNaN;
  if (!context.forward.planned.masks) return;
  const SamplePromise promise = sample_promise(context.call.parameters);
  std::map<int, Bounds> by_level;
  for (const HeadNode& place : context.approximated_nodes())
    if (place.head == head) by_level[place.node.level].add(node_bounds(context, place, promise));
  Bounds whole;
  for (const auto& [level, bounds] : by_level) {
    whole.add(bounds);
    levels.note(level, "log_bound_diagonal", bounds.log_diagonal);
    levels.note(level, "bound_product", bounds.product);
    levels.note(level, "bound_product_provable", provable(context, head, bounds.variance));
  }
  row.figures["log_bound_diagonal"] = whole.log_diagonal;
  row.figures["bound_product"] = whole.product;
  row.figures["bound_product_provable"] = provable(context, head, whole.variance);
}

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  LevelRows levels;
  std::vector<FigureRow> rows = rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    fill_head(context, head, row, levels);
    context.add_norm(head, context.exact.softmax_norm(head));
    set_norm_figures(context, head, row);
  });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& bound_measure() {
  static const DescribedMeasure measure({
      "bound",
      "the error that the paper's lemmas promise with constants 1, and one with a proven constant",
      {},
      {FigureSpec{"log_bound_diagonal", "log of the ε that Lemma 1 promises; causal: of the worst cross node"}
           .headline(),
       FigureSpec{"bound_product", "the ε that Lemma 2 promises; causal: of the worst cross node"}.headline(),
       {"bound_product_provable", "√(srank(P)·srank(V)/(δm)), holds with probability 1 − δ = 0.99"},
       {"srank_softmax", "‖P‖_F²/‖P‖_op²"},
       {"srank_value", "‖V‖_F²/‖V‖_op²"},
       FigureSpec{"norm_status", "whether the norms converged: converged, not_converged or not_finite"}
           .text(),
       {"norm_residual", "largest relative residual of the norms"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
