// HyperAttention as its theorem states it (paper, Algorithms 3 and 4): denominators from ApproxD, and the
// product with V sampled by squared row norms of V. Unlike the residual estimator, the product is sampled
// over all keys of a node; the mask enters through the denominators only.
//
//   out_i = Σ_r w_r exp(s_{i,l_r} − log d̃_i) v_{l_r},   w_r = ‖V‖_F² / (m ‖v_{l_r}‖²)
//
// Causal: leaves and small nodes are exact, denominators and products of all nodes of a row add up, and each
// node draws from its own keys.
#pragma once

#include <string>
#include <vector>

#include "algorithms/method.h"
#include "core/parameters.h"

namespace hyperattn {

/// approx_kappa, approx_epsilon, clip_constant.
[[nodiscard]] std::vector<ParameterSpec> theory_parameters();
/// Empty if the parameters go together; else what is wrong.
[[nodiscard]] std::string check_theory(const Parameters& parameters);
/// Score entries beyond those of mask and sample: steps 2 and 4b of ApproxD, m exact rows and the sample once
/// more.
[[nodiscard]] double theory_entries(const AttentionProblem& shapes, const Parameters& parameters);

/// S of Algorithm 3, step 2, as a plan: leaves and exact nodes with weight 1, every other node by m draws
/// from its keys (stream Purpose::value_sample), shared by all rows of the node and not masked.
[[nodiscard]] Plan value_sample_plan(const BoundProblem& bound, const Call& call);

/// The value sample's plan with ApproxD's denominators, so that P̃ = w exp(s − log d̃); these are computed on
/// the problem's engine. Error(usage) with a replay.
[[nodiscard]] PlannedCall plan_theory(const BoundProblem& bound, const Call& call);

}  // namespace hyperattn
