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
  const int64_t rows = context.problem().query_count();
  const MaskSums* sums = context.mask_sums();
  return rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    double& mean = row.figures["mask_mass_mean"] = std::numeric_limits<double>::quiet_NaN();
    double& smallest = row.figures["mask_mass_min"] = std::numeric_limits<double>::quiet_NaN();
    if (sums == nullptr) return;
    const Eigen::Map<const Eigen::ArrayXf> all(context.exact.lse(head), rows);
    const Eigen::Map<const Eigen::ArrayXf> masked(sums->masked.matrix(head).data, rows);
    const Eigen::ArrayXd mass = (masked.cast<double>() - all.cast<double>()).exp().min(1.0);
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
      {FigureSpec{"mask_mass_mean", "share of softmax mass inside the mask, mean over rows"}.headline(),
       {"mask_mass_min", "the same, smallest row"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
