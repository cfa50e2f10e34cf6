// Entries that a plan leaves out, as −∞: keys outside a visit or excluded from it (through the biases of a
// tile), and what lies beyond the diagonal or the window of a triangular pass (in the scores). Shared by the
// forward and the backward pass.
#pragma once

#include <cstdint>

#include "algorithms/plan.h"

namespace hyperattn {

/// Whether the visit leaves out any of the ranks [first, first + count).
[[nodiscard]] bool leaves_out(const Pass& pass, const Visit& visit, int64_t first, int64_t count);

/// Sets bias[rank − first] = −∞ for the ranks of [first, first + count) that the visit leaves out.
void mask_left_out(const Pass& pass, const Visit& visit, int64_t first, int64_t count, float* bias);

/// Sets scores[i, j] = −∞ where position + i may not see rank first_rank + j, for `rows` rows and `columns`
/// columns of a triangular pass.
void mask_triangle(const Pass& pass, int64_t first_rank, int64_t position, int64_t rows, int64_t columns,
                   float* scores, int64_t stride);

}  // namespace hyperattn
