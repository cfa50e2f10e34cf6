// Runs plans: tile by tile, with a running (maximum, sum, accumulator) per query row; memory O(n·d), never
// O(n²). See algorithms/plan.h for what a plan is; docs/architecture.md for the picture.
#pragma once

#include <string>
#include <vector>

#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// Departures from plain softmax attention that the theory estimator and the measures need. The first two are
/// refused (Error(usage)) with a plan that has moments or linear values.
struct EngineOptions {
  /// Given row normalisers (batch·heads·n_q, natural log): out_i = Σ_j w_ij exp(s_ij − normaliser_i) v_j and
  /// no division.
  const float* row_normaliser = nullptr;
  /// Cap on scores of a row (batch·heads·n_q, natural log): min(s_ij, cap_i) in place of s_ij, before the
  /// weight.
  const float* score_cap = nullptr;
  /// If not null, receives the number of unexcluded entries that the cap lowered.
  int64_t* capped_entries = nullptr;
  /// False: only the log-sum-exp is wanted; V is not read and `out` stays empty.
  bool values = true;
};

/// Runs a plan; stage seconds (mean over workers) are in the result's diagnostics. Cost 2·(d + d_v) FLOPs an
/// entry; extra memory at most one more copy of K and V (key lists visited by many tiles) and 2 words a row.
/// fp32 with row sums in double; bits are equal for any number of threads within one instruction set.
[[nodiscard]] AttentionResult run_forward(const AttentionProblem& problem, const Plan& plan,
                                          const EngineOptions& options = {});

/// Gradients of ⟨out, dout⟩ through every pass of the plan, given the forward's out and lse: each pass
/// contributes P = exp(s + log w − lse) to dQ, dK and dV. One pass over the entries, 10·d FLOPs an entry when
/// d_v = d. Deterministic for any number of threads. Error(usage): the plan has moments or linear values,
/// which have no gradient.
[[nodiscard]] AttentionGradients run_backward(const AttentionProblem& problem, const Plan& plan,
                                              const AttentionResult& forward, TensorView<const float> dout);

/// Instruction-set levels compiled in and usable on this processor, best first ("avx512", "avx2", "sse4",
/// "portable").
[[nodiscard]] std::vector<std::string> usable_instruction_sets();
/// The level in use: the best usable one unless the environment variable HYPERATTN_SIMD names another. Throws
/// Error(usage) if that name is unknown or not usable here.
[[nodiscard]] const std::string& instruction_set();
/// Forces a level for this process (tests); an empty name returns to the default.
void force_instruction_set(const std::string& name);

/// Measured peak of fused multiply-adds in GFLOP/s with the level in use on `threads` threads (about 0.2 s).
[[nodiscard]] double measure_fma_peak_gflops(int threads);

}  // namespace hyperattn
