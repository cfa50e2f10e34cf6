#include "algorithms/engines/cpu/masking.h"

#include <algorithm>
#include <limits>

namespace hyperattn {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// The first excluded rank of the visit that is not below `rank`, as an index into pass.excluded.
int64_t first_excluded(const Pass& pass, const Visit& visit, int64_t rank) {
  const auto begin = pass.excluded.begin() + visit.excluded_begin;
  const auto end = pass.excluded.begin() + visit.excluded_end;
  return std::lower_bound(begin, end, rank) - pass.excluded.begin();
}

}  // namespace

bool leaves_out(const Pass& pass, const Visit& visit, int64_t first, int64_t count) {
  if (first < visit.begin || visit.end < first + count) return true;
  const int64_t e = first_excluded(pass, visit, first);
  return e < visit.excluded_end && pass.excluded[static_cast<size_t>(e)] < first + count;
}

void mask_left_out(const Pass& pass, const Visit& visit, int64_t first, int64_t count, float* bias) {
  const int64_t end = first + count;
  for (int64_t rank = first; rank < std::min(end, visit.begin); ++rank) bias[rank - first] = kMinusInfinity;
  for (int64_t rank = std::max(first, visit.end); rank < end; ++rank) bias[rank - first] = kMinusInfinity;
  for (int64_t e = first_excluded(pass, visit, first); e < visit.excluded_end; ++e) {
    const int64_t rank = pass.excluded[static_cast<size_t>(e)];
    if (rank >= end) break;
    bias[rank - first] = kMinusInfinity;
  }
}

void mask_triangle(const Pass& pass, int64_t first_rank, int64_t position, int64_t rows, int64_t columns,
                   float* scores, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * stride;
    const int64_t first = std::clamp<int64_t>(pass.first_visible(position + i) - first_rank, 0, columns);
    const int64_t last = std::clamp<int64_t>(pass.last_visible(position + i) - first_rank, first, columns);
    std::fill(row, row + first, kMinusInfinity);
    std::fill(row + last, row + columns, kMinusInfinity);
  }
}

}  // namespace hyperattn
