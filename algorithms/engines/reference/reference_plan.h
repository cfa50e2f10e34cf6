// What a plan means, in double precision and in loops that read like the formula: the specification that
// every engine is tested against. Slow on purpose: each row gathers all its weighted keys, then applies the
// formula of plan.h; no tiles, no running state.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/engine.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// out (batch, heads, n_q, d_v), empty if values were not asked for, and lse (batch, heads, n_q, 1), natural
/// logarithm. A row without any key, and a guarded row, has out = 0 and lse = −∞.
struct DoubleResult {
  Tensor<double> out;
  Tensor<double> lse;
  Tensor<double> maximum;      ///< as lse: the largest log-weighted score, natural logarithm
  Tensor<double> denominator;  ///< as lse: Σ D exp(score − maximum); 0 where lse is −∞
  Tensor<double> absolute;     ///< as lse: Σ |D| exp(score − maximum), by which rounding errors are judged
  std::vector<uint8_t> clipped;  ///< by element of out; empty: no clip
  int64_t capped_entries = 0;
  int64_t guarded_rows = 0;
};

/// Gradients of ⟨out, dout⟩ in the shapes of the three inputs.
struct DoubleGradients {
  Tensor<double> dquery;
  Tensor<double> dkey;
  Tensor<double> dvalue;
};

/// Runs a plan under the options of an engine. `options.capped_entries` is written too. Parallel over rows;
/// the result does not depend on threads. Time O(entries·(d + d_v)), memory O(entries of a row) a thread.
[[nodiscard]] DoubleResult run_plan_in_double(const AttentionProblem& problem, const Plan& plan,
                                              const EngineOptions& options = {});

/// The gradient of `run_plan_in_double` with default options, by the formulas of Engine::backward.
/// Error(usage): the plan has moments or linear values.
[[nodiscard]] DoubleGradients run_plan_backward_in_double(const AttentionProblem& problem, const Plan& plan,
                                                          const DoubleResult& forward,
                                                          TensorView<const float> dout);

/// Engine::transposed.
[[nodiscard]] Tensor<double> run_transposed_in_double(const AttentionProblem& problem, const Plan& plan,
                                                      const RowSums& denominators,
                                                      TensorView<const float> rows);

/// Exact attention, and its gradients.
[[nodiscard]] DoubleResult attention_in_double(const AttentionProblem& problem);
[[nodiscard]] DoubleGradients attention_gradients_in_double(const AttentionProblem& problem,
                                                            const DoubleResult& forward,
                                                            TensorView<const float> dout);

}  // namespace hyperattn
