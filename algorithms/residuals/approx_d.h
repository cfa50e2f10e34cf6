// ApproxD (paper, Algorithm 2): denominators of all rows of a node from its heavy mask, m exact row sums and
// m sampled keys. Steps are numbered as in the paper; U_i is the unmasked row sum Σ_j (1 − M_ij) exp(s_ij).
//
//   1   T: a random subset of the query rows, |T| = min(m, n_q)
//   2   τ = max_{j ∈ T} U_j, computed exactly
//   3   l_1 … l_m: keys drawn i.i.d. uniformly, shared by all rows
//   4a  C_i = c · ε² m / (n ln n) · (masked_i + τ/κ)         n = n_k; c is the constant that Θ(·) leaves open
//   4b  d_i = (n/m) Σ_r (1 − M[i, l_r]) min(exp(s_{i,l_r}), C_i)
//   4c  d̃_i = masked_i + max(d_i, τ/κ)
//
// τ/κ compares row sums of different rows, so everything is kept as natural logarithms of unshifted sums: one
// common reference for all rows, and no overflow whatever the scores. The clip makes d_i biased low, the
// floor biases it up; without both, d̃_i is the unbiased uniform estimate.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/call.h"
#include "algorithms/masks/node_mask.h"
#include "algorithms/primitives/column_sample.h"

namespace hyperattn {

struct ApproxDOptions {
  /// ≥ 1; ∞: no floor; none: largest over smallest U_j, j ∈ T, and so ∞ where a row of T is wholly masked.
  std::optional<double> kappa;
  double epsilon = 0.5;
  double clip_constant = 1;  ///< c; 0: no clip
};

/// The random choices of a node.
struct ApproxDNode {
  HeadNode place;
  const NodeMask* mask = nullptr;
  std::vector<int32_t> test_rows;  ///< T: query rows of the problem
  ColumnSample sample;             ///< l_1 … l_m with weight n_k/m
};

/// Steps 1 and 3: streams (seed, Purpose::row_sample or key_sample, trial, head, node.stream); m is clamped
/// to the node's keys.
[[nodiscard]] std::vector<ApproxDNode> draw_approx_d(const Call& call, int64_t sample_size,
                                                     const std::vector<HeadNode>& places,
                                                     const std::vector<NodeMask>& masks);

struct ApproxDResult {
  std::vector<double> log_denominators;  ///< heads · n_q: log d̃_i; −∞ in rows of no node
  std::vector<double> log_tau;           ///< by node; −∞ if no row of T has an unmasked key
  std::vector<double> log_floor;         ///< by node: log τ/κ; −∞: no floor
  int64_t sampled_entries = 0;           ///< terms of all sums 4b
  int64_t clipped_entries = 0;           ///< those that C_i lowered
  int64_t rows = 0;
  int64_t floored_rows = 0;  ///< rows with d_i < τ/κ
  int64_t collisions = 0;    ///< sampled entries left out because the mask holds them
  int64_t entries = 0;       ///< scores computed in all steps
};

/// Steps 2 and 4 for nodes with disjoint query rows in each head (such as one level of the causal recursion).
/// Cost 2·d FLOPs for each masked entry, for m·n_k unmasked ones and for n_q·m sampled ones. Deterministic
/// for any number of threads.
[[nodiscard]] ApproxDResult approx_d(const BoundProblem& bound, const std::vector<ApproxDNode>& nodes,
                                     const ApproxDOptions& options);

/// log(exp(a) + exp(b)) without overflow; −∞ is the neutral element.
[[nodiscard]] double log_add(double a, double b);

}  // namespace hyperattn
