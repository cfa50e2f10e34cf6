// How much of each row's softmax mass is computed exactly.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/eigen.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"

namespace hyperattn {
namespace {

std::vector<FigureRow> compute(MeasureContext& context, const Parameters&) {
  const MaskSums* sums = context.mask_sums();
  return rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    double& mean = row.figures["mask_mass_mean"] = std::numeric_limits<double>::quiet_NaN();
    double& smallest = row.figures["mask_mass_min"] = std::numeric_limits<double>::quiet_NaN();
    if (sums == nullptr) return;
    // Not Eigen's exp, which makes a number above 0 of −∞, the logarithm of a row without mask.
    const Eigen::ArrayXd mass =
        as_eigen(context.exact.log_ratios(sums->masked, head))
            .array()
            .tail(context.problem().query_count() - first_seeing_row(context.problem()))
            .unaryExpr([](double log) { return std::exp(-log); })
            .min(1.0);
    mean = mass.mean();
    smallest = mass.minCoeff<Eigen::PropagateNaN>();
  });
}

}  // namespace

const Measure& mask_mass_measure() {
  static const DescribedMeasure measure({
      "mask_mass",
      "the share of softmax mass that is computed exactly: the mask's, and a causal problem's exact leaves",
      {},
      {FigureSpec{"mask_mass_mean", "share of softmax mass inside the mask, mean over rows that see a key"}
           .headline(),
       {"mask_mass_min", "the same, smallest row"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
