#pragma once

#include <cstddef>
#include <vector>

namespace hyperattn {

/// p-value of the two-sided Mann-Whitney U test that `a` and `b` come from one distribution (neither tends to
/// be larger). Exact, ties included (midranks), up to 40 values in all; beyond, the normal approximation with
/// tie and continuity corrections. 1 if either is empty or all values are equal. Values must not be NaN.
[[nodiscard]] double rank_test(const std::vector<double>& a, const std::vector<double>& b);

/// The smallest p-value that samples of these sizes can give: 2 over the number of ways to choose. No data
/// can be significant where this is above the level.
[[nodiscard]] double smallest_p_value(size_t a, size_t b);

}  // namespace hyperattn
