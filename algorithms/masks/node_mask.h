// The heavy mask of one node (a head, or a causal cross node) in the one form that all kinds of mask share:
// groups of query positions, each with runs of key ranks. From it come the exactly computed entries, the
// sampled keys that each row must leave out, and the unmasked rest.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/heavy_mask.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"
#include "algorithms/primitives/sort_lsh.h"

namespace hyperattn {

/// Key ranks [begin, end).
struct RankRange {
  int64_t begin = 0;
  int64_t end = 0;
};

/// Query positions [begin, end) hold the ranges [first_range, last_range), increasing and disjoint.
struct MaskGroup {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_range = 0;
  int64_t last_range = 0;
};

struct NodeMask {
  RowOrder queries;                ///< position → query row of the problem
  RowOrder keys;                   ///< rank → key row of the problem; all keys of the node
  std::vector<int32_t> key_ranks;  ///< key row − node.key_begin → rank; empty: the same number
  std::vector<MaskGroup> groups;   ///< in order of positions; together they cover all positions
  std::vector<RankRange> ranges;

  [[nodiscard]] int64_t rank_of(int64_t node_key) const {
    return key_ranks.empty() ? node_key : key_ranks[static_cast<size_t>(node_key)];
  }
};

/// Nothing is computed exactly: one group without ranges.
[[nodiscard]] NodeMask empty_mask(const AttentionNode& node);

/// Blocks of sorted rows; `queries` and `keys` hold row numbers of the problem, `keys` with ranks.
[[nodiscard]] NodeMask sorted_mask(SortedRows queries, SortedRows keys, const std::vector<RankBlock>& blocks);

/// Row i holds the keys j with |j − ⌊i·n_k/n_q⌋| ≤ band_width that lie in the node (n_q, n_k of the problem).
[[nodiscard]] NodeMask band_mask(const AttentionNode& node, int64_t band_width, int64_t query_count,
                                 int64_t key_count);

/// The part of the caller's mask that lies in the node. Consecutive rows with the same pattern share a group.
[[nodiscard]] NodeMask pattern_mask(const AttentionNode& node, const HeavyMask::Pattern& pattern);

/// Appends the places in `sample_ranks` (increasing, repeats allowed) that lie in the group's ranges.
void append_masked_samples(const NodeMask& mask, const MaskGroup& group,
                           const std::vector<int32_t>& sample_ranks, std::vector<int32_t>& places);

/// Visits of each group of a mask: group g has visits [begin[g], begin[g + 1]).
struct GroupVisits {
  std::vector<Visit> visits;
  std::vector<int64_t> begin = {0};
};

/// Adds a key list with the mask's keys to the pass and returns what each group visits of it. Short scattered
/// ranges are gathered into one run for each group, because the engine works on tiles of keys.
[[nodiscard]] GroupVisits add_masked_keys(const NodeMask& mask, Stage stage, Pass& pass);

/// The same for the keys outside each group's ranges.
[[nodiscard]] GroupVisits add_unmasked_keys(const NodeMask& mask, Stage stage, Pass& pass);

}  // namespace hyperattn
