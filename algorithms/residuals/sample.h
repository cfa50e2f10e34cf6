// A weighted sample of keys (paper, section 4), shared by all rows of a head or causal node; those that lie
// in a row's mask are left out for that row.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/node_mask.h"
#include "algorithms/primitives/column_sample.h"

namespace hyperattn {

/// A sampled list for the mask's key ranks: sorted by rank, as exclusions need it.
struct RankedSample {
  std::vector<int32_t> ranks;  ///< increasing, repeats allowed
  KeyList list;
};
[[nodiscard]] RankedSample rank_sample(const ColumnSample& sample, const NodeMask& mask,
                                       const AttentionNode& node);

/// Mask and sample of a node: in one pass where the mask's groups share the sample well, else in two. Further
/// masks have passes of their own; with `rows_apart` rows then share nothing (mask_union.h).
[[nodiscard]] std::vector<Pass> sampled_passes(const AttentionProblem& problem, const HeadNode& place,
                                               const NodeMask& mask, const ColumnSample& sample,
                                               bool count_collisions, bool rows_apart = false);

/// The sampled keys for every row of the node, without those in the row's mask itself (unless
/// `count_collisions`). Consecutive groups that leave out the same keys are merged.
[[nodiscard]] Pass sample_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                               const ColumnSample& sample, bool count_collisions);

}  // namespace hyperattn
