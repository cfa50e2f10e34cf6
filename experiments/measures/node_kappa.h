// κ of one node, which the measures `kappa` and `bound` share.
#pragma once

#include <cstdint>

#include "experiments/measures/context.h"

namespace hyperattn {

/// log of the largest over the smallest sum, given their logarithms; ∞ if a sum is 0.
[[nodiscard]] double log_ratio_of_sums(const float* log_sums, int64_t rows);

/// log κ of a node under the backend's mask; NaN for a backend without one.
[[nodiscard]] double node_log_kappa(MeasureContext& context, const HeadNode& place);

}  // namespace hyperattn
