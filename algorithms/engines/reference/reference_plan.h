// What a plan means, in double precision and in loops that read like the formula: the specification that
// the engine and everything built on it are tested against. Slow on purpose; no tiles, no running maximum.
#pragma once

#include <cstdint>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// out (batch, heads, n_q, d_v), empty if values were not asked for, and lse (batch, heads, n_q, 1), natural
/// logarithm. A row without any key has out = 0 and lse = −∞.
struct DoubleResult {
  Tensor<double> out;
  Tensor<double> lse;
  int64_t capped_entries = 0;
};

/// Gradients of ⟨out, dout⟩ in the shapes of the three inputs.
struct DoubleGradients {
  Tensor<double> dquery;
  Tensor<double> dkey;
  Tensor<double> dvalue;
};

/// Runs a plan under the options of `run_forward`: out_i = Σ_j w_ij exp(min(s_ij, cap_i) − normaliser_i) v_j,
/// where the normaliser is the row's own lse unless given, and what KeyMoments and LinearValues (plan.h)
/// say. `options.capped_entries` is written too. Parallel over heads; the result does not depend on
/// threads.
[[nodiscard]] DoubleResult run_plan_in_double(const AttentionProblem& problem, const Plan& plan,
                                              const EngineOptions& options = {});

/// The gradient of `run_plan_in_double` with default options: with P_ij = w_ij exp(s_ij − lse_i),
///   dV_j = Σ_i P_ij dout_i,   dS_ij = P_ij (dout_i · v_j − dout_i · out_i),
///   dQ_i = scale Σ_j dS_ij k_j,   dK_j = scale Σ_i dS_ij q_i.
/// A synthetic key's gradient goes to its members by their shares, because it is their weighted mean.
/// Error(usage): the plan has moments, as in `run_backward`.
[[nodiscard]] DoubleGradients run_plan_backward_in_double(const AttentionProblem& problem, const Plan& plan,
                                                          const DoubleResult& forward,
                                                          TensorView<const float> dout);

}  // namespace hyperattn
