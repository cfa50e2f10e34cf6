// Runs of neighbouring keys in a mask's order, each replaced by a centroid: one synthetic key, a mean key
// with a mean value and a log-weight. For a run R of n keys
//   Σ_{j∈R} exp(s·q·k_j) v_j ≈ w·exp(s·q·k̄)·v̄,
// which is exact where the run is one key. Unlike a sample it has no variance.
//
// - Plain: k̄ and v̄ are means, w = n. Exact where all keys are equal; by Jensen's inequality the
//   denominator is never overestimated.
// - Calibrated, on the masses a_j that sampled queries give the keys: half of a member's share in k̄ and v̄ is
//   equal, half goes by mass,
//       share_j = ½/n + ½·a_j/a_R,   a_R = Σ_{j∈R} a_j,
//   and w = a_R / Σ_q 2^(score(q, k̄) − log₂ sum_q) makes the run's mass right, summed over the sampled
//   queries: what all rows would get wrong alike is what the operator norm of the error feels most. Runs are
//   cut where half the count plus half the mass has grown by an equal part, so that heavy keys stand alone.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/masks/node_mask.h"
#include "algorithms/plan.h"
#include "algorithms/primitives/column_masses.h"

namespace hyperattn {

/// A list whose entries each stand for key ranks of a mask, from `ranks` on (increasing).
struct RankedList {
  KeyList list;
  std::vector<int32_t> ranks;  ///< lowest key rank of each entry
};

/// Replaces the given key ranks (increasing) of a node by about `budget` ≥ 1 plain centroids of equally many
/// keys. No run straddles a border of the mask's ranges, so that a group leaves out exactly the runs of its
/// own keys; at least one run for each stretch between borders, even if these are more than `budget`. As many
/// centroids as ranks give the keys themselves. O(ranks · (d + d_v)); parallel, independent of threads. The
/// gradient with the runs held fixed is exact: a mean's gradient is shared evenly by its members.
[[nodiscard]] RankedList make_centroids(const BoundProblem& bound, int64_t head, const NodeMask& mask,
                                        const std::vector<int32_t>& ranks, int64_t budget);

/// Replaces all keys of a node by about `budget` ≥ 1 calibrated centroids, within the same borders. A run of
/// one key is that key with weight 1; a run to whose keys no sampled query gives any mass is plain. Shares
/// and weights are held fixed in the gradient, as the runs are. Costs `make_centroids` and kMassRows scores
/// for each centroid.
[[nodiscard]] RankedList make_calibrated_centroids(const BoundProblem& bound, int64_t head,
                                                   const NodeMask& mask, int64_t budget,
                                                   const SampledQueries& queries, const ColumnMasses& masses);

}  // namespace hyperattn
