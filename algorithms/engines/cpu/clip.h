// The clip of a plan's output to the range of the values that each row may see.
#pragma once

#include "algorithms/problem.h"

namespace hyperattn {

/// Holds every column of every row with a denominator between the smallest and the largest value of the keys
/// that the row may see, and notes in result.clipped what moved. `slack`: of the range, relative to its
/// values, within which a move is rounding. O(n·d_v); under a window O(n·window·d_v).
void clip_to_values(const AttentionProblem& problem, double slack, AttentionResult& result);

}  // namespace hyperattn
