// The paper's condition number κ: how much the unmasked row sums differ (section 3).
#include <algorithm>
#include <cmath>
#include <limits>

#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"
#include "experiments/measures/node_kappa.h"

namespace hyperattn {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  const AttentionProblem& problem = context.problem();
  std::vector<double> of_nodes(static_cast<size_t>(problem.heads()), kNaN);
  LevelRows levels;
  for (const HeadNode& place : context.approximated_nodes()) {
    const double log_kappa = node_log_kappa(context, place);
    double& largest = of_nodes[static_cast<size_t>(place.head)];
    largest = std::isnan(largest) ? log_kappa : larger(largest, log_kappa);
    levels.note(place.node.level, "log_kappa_node", log_kappa);
  }
  const bool masked = context.mask_sums() != nullptr;
  std::vector<FigureRow> rows = rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    const double node = of_nodes[static_cast<size_t>(head)];
    // The first leaf of a causal problem is wholly masked.
    const double whole = problem.causal ? std::numeric_limits<double>::infinity() : node;
    row.figures["log_kappa"] = masked ? whole : kNaN;
    row.figures["log_kappa_node"] = problem.causal ? node : kNaN;
    row.figures["log_kappa_empty"] = log_ratio_of_sums(context.exact.lse(head) + first_seeing_row(problem),
                                                       problem.query_count() - first_seeing_row(problem));
  });
  levels.append_to(rows);
  return rows;
}

}  // namespace

double log_ratio_of_sums(const float* log_sums, int64_t rows) {
  const auto [smallest, largest] = std::minmax_element(log_sums, log_sums + rows);
  if (std::isinf(*smallest)) return std::numeric_limits<double>::infinity();
  return static_cast<double>(*largest) - static_cast<double>(*smallest);
}

double node_log_kappa(MeasureContext& context, const HeadNode& place) {
  const MaskSums* sums = context.mask_sums();
  if (sums == nullptr) return kNaN;
  const auto level = sums->unmasked.find(place.node.level);
  if (level == sums->unmasked.end()) return std::numeric_limits<double>::infinity();
  return log_ratio_of_sums(level->second.matrix(place.head).data + place.node.query_begin,
                           place.node.query_count());
}

const Measure& kappa_measure() {
  static const DescribedMeasure measure({
      "kappa",
      "the ratio of the largest to the smallest row sum of exp(scores) outside the mask",
      {},
      {FigureSpec{"log_kappa",
                  "log of the largest over the smallest unmasked row sum; ∞ with a wholly masked row"}
           .headline(),
       FigureSpec{"log_kappa_node", "causal: largest log_kappa of the approximated cross nodes"}.headline(),
       {"log_kappa_empty", "log_kappa under the empty mask"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
