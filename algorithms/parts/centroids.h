// Centroids: runs of neighbouring keys in a mask's order, each replaced by one synthetic key, the mean key
// with the mean value and the log of the number of its keys as log-weight. For a run R of n keys
//   Σ_{j∈R} exp(s·q·k_j) v_j ≈ n·exp(s·q·k̄)·v̄,
// which is exact where all keys of the run are equal or the run is one key; by Jensen's inequality the
// denominator is never overestimated. It has no variance, unlike a sample.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/parts/node_mask.h"
#include "algorithms/plan.h"

namespace hyperattn {

/// Synthetic keys in the order of the ranks that they replace.
struct CentroidList {
  std::vector<int32_t> first_ranks;  ///< lowest key rank of each run, increasing
  KeyList list;
};

/// Replaces the given key ranks (increasing) of a node by about `budget` ≥ 1 centroids of equally many keys.
/// No run straddles a border of the mask's ranges, so that a group leaves out exactly the runs of its own
/// keys; at least one run for each stretch between borders, even if these are more than `budget`. As many
/// centroids as ranks give the keys themselves. O(ranks · (d + d_v)); parallel, independent of threads. The
/// gradient with the runs held fixed is exact: a mean's gradient is shared evenly by its members.
[[nodiscard]] CentroidList make_centroids(const AttentionProblem& problem, int64_t head, const NodeMask& mask,
                                          const std::vector<int32_t>& ranks, int64_t budget);

}  // namespace hyperattn
