// From options to plans: heavy mask and residual of every head and causal node. This is all that the backends
// `lsh` and `hyper` are made of; the theory estimator starts from the same nodes and masks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/backend.h"
#include "algorithms/masks/mask_planning.h"

namespace hyperattn {

/// Column samples of the given nodes (stream Purpose::key_sample), or those of the context's replay.
[[nodiscard]] std::vector<ColumnSample> draw_samples(const AttentionProblem& problem,
                                                     const CallContext& context, const SparseOptions& options,
                                                     const std::vector<HeadNode>& nodes,
                                                     PlanningSeconds* seconds);

/// Phase 0 of a causal plan: the leaves of all heads, exactly. No passes if there are no leaves.
[[nodiscard]] Phase leaf_phase(const NodeTree& tree, int64_t heads);

/// All of the node's entries with weight 1.
[[nodiscard]] Pass exact_node_pass(int64_t head, const AttentionNode& node);

/// The entries of the mask with weight 1.
[[nodiscard]] Pass mask_pass(int64_t head, const AttentionNode& node, const NodeMask& mask);

/// A sampled list for the mask's key ranks: sorted by rank, as exclusions need it.
struct RankedSample {
  std::vector<int32_t> ranks;  ///< increasing, repeats allowed
  KeyList list;
};
[[nodiscard]] RankedSample rank_sample(const ColumnSample& sample, const NodeMask& mask,
                                       const AttentionNode& node);

/// The sampled keys for every row of the node, without those in the row's mask (unless `count_collisions`).
/// Consecutive groups that leave out the same keys are merged.
[[nodiscard]] Pass sample_pass(int64_t head, const AttentionNode& node, const NodeMask& mask,
                               const ColumnSample& sample, bool count_collisions);

/// The plan of the backends `lsh` (sample_size 0) and `hyper` (residual estimator): leaves and small nodes
/// exactly, every other node by its mask and its sample. Planning seconds are added to `seconds`.
[[nodiscard]] Plan sparse_plan(const AttentionProblem& problem, const CallContext& context,
                               const SparseOptions& options, PlanningSeconds* seconds = nullptr);

/// The entries of the approximated nodes that lie outside their masks: what `sparse_plan` leaves to the
/// sample.
[[nodiscard]] Plan unmasked_plan(const AttentionProblem& problem, const CallContext& context,
                                 const SparseOptions& options);

/// Sampled entries that the plan leaves out because the row's mask already holds them.
[[nodiscard]] int64_t count_excluded(const Plan& plan);

/// Score entries that such a plan computes, from shapes alone (a mask of the caller's own counts as blocks).
[[nodiscard]] double estimate_sparse_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                             const SparseOptions& options);

/// Bytes beyond inputs and outputs: packed keys and values, orders, running states.
[[nodiscard]] double estimate_sparse_bytes(const TensorShape& query, const TensorShape& key,
                                           const TensorShape& value, const SparseOptions& options);

}  // namespace hyperattn
