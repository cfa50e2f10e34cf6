// Centre and spread of repeated timings, robust against the odd disturbed repeat.
#pragma once

#include <vector>

namespace hyperattn {

/// The middle value (mean of the two middle ones for an even count); NaNs are left out; NaN if nothing
/// remains.
[[nodiscard]] double median(std::vector<double> values);

/// Median absolute deviation from the median, unscaled; NaN for none.
[[nodiscard]] double median_absolute_deviation(const std::vector<double>& values);

/// Standard error of the median relative to it, for roughly normal noise: 1.2533·σ/√count with
/// σ = 1.4826·MAD. ∞ for fewer than two values, NaN for none.
[[nodiscard]] double relative_error_of_median(const std::vector<double>& values);

}  // namespace hyperattn
