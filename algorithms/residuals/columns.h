// The heaviest keys exactly, and plain centroids of the others.
#pragma once

#include <cstdint>
#include <vector>

namespace hyperattn {

struct ColumnBudget {
  int64_t centroids = 0;
  int64_t columns = 0;
};

/// Splits m ≥ 1 keys: the columns take `column_share` of them, rounded; the centroids take the rest, which is
/// at least one unless the share is 1.
[[nodiscard]] ColumnBudget split_budget(int64_t sample_size, double column_share);

/// The `count` places of largest value, in increasing order; of equal values the first is taken.
[[nodiscard]] std::vector<int32_t> largest_places(const std::vector<float>& values, int64_t count);

}  // namespace hyperattn
