// Runs plans on the CPU in single precision: tile by tile, with a running (maximum, sum, accumulator) per
// query row; memory O(n·d), never O(n²).
#pragma once

#include "algorithms/engine.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// Engine::forward. Stage seconds (mean over workers) are in the result's diagnostics. Cost 2·(d + d_v) FLOPs
/// an entry; extra memory at most one more copy of K and V (key lists visited by many tiles) and a few words
/// a row. fp32 with row sums in double; bits are equal for any number of threads within one instruction set.
[[nodiscard]] AttentionResult run_forward(const AttentionProblem& problem, const Plan& plan,
                                          const EngineOptions& options = {});

/// Engine::backward, in one pass over the entries, 10·d FLOPs an entry when d_v = d.
[[nodiscard]] AttentionGradients run_backward(const AttentionProblem& problem, const Plan& plan,
                                              const AttentionResult& forward, TensorView<const float> dout);

/// Engine::transposed. 2·(d + w) FLOPs an entry.
[[nodiscard]] Tensor<float> run_transposed(const AttentionProblem& problem, const Plan& plan,
                                           const RowSums& denominators, TensorView<const float> rows);

}  // namespace hyperattn
