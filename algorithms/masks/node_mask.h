// The heavy mask of one node (a head, or a causal cross node) in the one form that all kinds of mask share:
// groups of query positions, each with runs of key ranks. From it come the exactly computed entries, the
// sampled keys that each row must leave out, and the unmasked rest.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/heavy_mask.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/plan_builder.h"
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

/// Query rows of a block, on average, from which on blocks need not be listed.
constexpr int64_t kLeftBlockRows = 64;

struct NodeMask {
  RowOrder queries;                ///< position → query row of the problem
  RowOrder keys;                   ///< rank → key row of the problem; all keys of the node
  std::vector<int32_t> key_ranks;  ///< key row − node.key_begin → rank; empty: the same number
  /// In place of key_ranks where the keys were sorted on a device: the ranks of MaskRequest::asked_keys.
  RemoteRanks asked = {};
  int64_t block_size = 0;  ///< the groups are `aligned_blocks` of this size; 0: others
  /// In order of positions; together they cover all positions. Empty where block_size says it all
  /// (`with_listed_groups`).
  std::vector<MaskGroup> groups;
  std::vector<RankRange> ranges;
  /// Masks of the same node in other orders, without further ones of their own: a row holds the keys of all
  /// of them, each once (mask_union.h).
  std::vector<NodeMask> further;

  [[nodiscard]] int64_t rank_of(int64_t node_key) const {
    return key_ranks.empty() ? node_key : key_ranks[static_cast<size_t>(node_key)];
  }
};

/// Nothing is computed exactly: one group without ranges.
[[nodiscard]] NodeMask empty_mask(const AttentionNode& node);

/// The mask itself; or `room`, set to it with its groups and their ranges, where aligned blocks were not
/// listed.
[[nodiscard]] const NodeMask& with_listed_groups(const NodeMask& mask, NodeMask& room);

/// Blocks of sorted rows; `queries` and `keys` hold row numbers of the problem, `keys` with ranks.
[[nodiscard]] NodeMask sorted_mask(SortedRows queries, SortedRows keys, const std::vector<RankBlock>& blocks);

/// Row i holds the keys j with |j − p_i| ≤ band_width that lie in the node: p_i = ⌊i·n_k/n_q⌋, or the row's
/// position under a causal mask.
[[nodiscard]] NodeMask band_mask(const AttentionProblem& problem, const AttentionNode& node,
                                 int64_t band_width);

/// The part of the caller's mask that lies in the node. Consecutive rows with the same pattern share a group.
[[nodiscard]] NodeMask pattern_mask(const AttentionNode& node, const HeavyMask::Pattern& pattern);

/// Ranks at which a stretch of keys ends that all groups hold or lack together: increasing, the last rank's
/// end included.
[[nodiscard]] std::vector<int64_t> borders_of(const NodeMask& mask);

/// How many keys the group holds, and whether the key of a rank is one of them.
[[nodiscard]] int64_t held_keys(const NodeMask& mask, const MaskGroup& group);
[[nodiscard]] bool holds(const NodeMask& mask, const MaskGroup& group, int64_t rank);

/// Appends the places in `sample_ranks` (increasing, repeats allowed) that lie in the group's ranges.
void append_masked_samples(const NodeMask& mask, const MaskGroup& group,
                           const std::vector<int32_t>& sample_ranks, std::vector<int32_t>& places);

/// How the groups of a mask visit a key list of the pass.
class GroupVisits {
 public:
  /// Adds a list with the mask's keys to the pass, for visits to the ranges of each group. Short scattered
  /// ranges are gathered into one run for each group, because engines work on tiles of keys.
  static GroupVisits masked(const NodeMask& mask, Stage stage, PassBuilder& pass);
  /// The same for the keys outside each group's ranges.
  static GroupVisits unmasked(const NodeMask& mask, Stage stage, PassBuilder& pass);

  /// The pass's open group visits what group `g` of the mask does.
  void visit(size_t g, PassBuilder& pass) const;
  [[nodiscard]] bool empty(size_t g) const { return begin_[g] == begin_[g + 1]; }

 private:
  int32_t list_ = 0;
  std::vector<RankRange> ranges_;
  std::vector<size_t> begin_ = {0};
};

}  // namespace hyperattn
