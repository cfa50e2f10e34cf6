// Runs plans on the CPU: tile by tile, with a running (maximum, sum, accumulator) per
// query row; memory O(n·d), never O(n²).
#pragma once

#include "algorithms/engine.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// What a forward pass multiplies; products add up in fp32.
enum class Precision {
  fp32,
  /// Queries, keys and values, signed ones times their numerators, and the weights that multiply them, each
  /// rounded to bfloat16 to nearest even. Denominators sum the weights before they are rounded. In fp32
  /// from inputs as they are: segments of row visits, moments and linear values, and passes with given
  /// denominators or caps.
  bf16,
};

/// Engine::forward. In bf16 the problem's own tensors are rounded already. Stage seconds (mean over workers)
/// are in the result's diagnostics. Cost 2·(d + d_v) FLOPs an entry; extra memory at most one more copy of K
/// and V (key lists visited by many tiles) and a few words a row. Row sums are in double; bits are equal for
/// any number of threads within one instruction set.
[[nodiscard]] AttentionResult run_forward(const AttentionProblem& problem, const Plan& plan,
                                          const EngineOptions& options = {},
                                          Precision precision = Precision::fp32);

/// Engine::backward, in fp32, in one pass over the entries, 10·d FLOPs an entry when d_v = d.
[[nodiscard]] AttentionGradients run_backward(const AttentionProblem& problem, const Plan& plan,
                                              const AttentionResult& forward, TensorView<const float> dout);

/// Engine::transposed, in fp32. 2·(d + w) FLOPs an entry.
[[nodiscard]] Tensor<float> run_transposed(const AttentionProblem& problem, const Plan& plan,
                                           const RowSums& denominators, TensorView<const float> rows);

}  // namespace hyperattn
