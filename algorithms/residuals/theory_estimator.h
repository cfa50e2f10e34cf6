// HyperAttention as its theorem states it (paper, Algorithms 3 and 4): denominators from ApproxD, and the
// product with V sampled by squared row norms of V. Unlike the residual estimator, the product is sampled
// over all keys of a node; the mask enters through the denominators only.
//
//   out_i = Σ_r w_r exp(s_{i,l_r} − log d̃_i) v_{l_r},   w_r = ‖V‖_F² / (m ‖v_{l_r}‖²)
//
// Causal: leaves and small nodes are exact, denominators and products of all nodes of a row add up, and each
// node draws from its own keys.
#pragma once

#include "algorithms/residuals/approx_d.h"

namespace hyperattn {

/// S of Algorithm 3, step 2, as a plan: leaves and exact nodes with weight 1, every other node by m draws
/// from its keys (stream Purpose::value_sample), shared by all rows of the node and not masked.
[[nodiscard]] Plan value_sample_plan(const AttentionProblem& problem, const CallContext& context,
                                     int64_t sample_size, int64_t min_seq_len);

/// The estimator. Of `options` it reads the mask's part, sample_size and min_seq_len. `lse` of the result is
/// log d̃ and its plan the value sample's, so that P̃ = w exp(s − lse). A row whose d̃ is 0 gives 0 and −∞.
/// Where d̃_i is so far below a sampled entry that the estimate would leave the range of floats, terms are
/// capped at e^75, so that the output stays finite.
[[nodiscard]] ForwardState theory_attention(const AttentionProblem& problem, const CallContext& context,
                                            const SparseOptions& options, const ApproxDOptions& approx);

}  // namespace hyperattn
