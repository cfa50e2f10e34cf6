// From options to plans: heavy mask and column sample of every head and causal node. This is all that the
// backends `lsh` and `hyper` are made of; the theory estimator starts from the same nodes and masks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/backend.h"
#include "algorithms/parts/causal.h"
#include "algorithms/parts/column_sample.h"
#include "algorithms/parts/node_mask.h"

namespace hyperattn {

enum class MaskKind { sort_lsh, none, band, file };

/// How the keys outside the mask are estimated.
enum class Residual {
  sample,             ///< a weighted sample (the paper)
  centroids,          ///< parts/centroids.h
  columns_centroids,  ///< keys of largest estimated mass exactly, centroids of the others
};

struct SparseOptions {
  MaskKind mask = MaskKind::sort_lsh;
  int64_t bucket_count = 128;
  int64_t block_size = 256;
  BucketOrder bucket_order = BucketOrder::gray;
  bool random_buckets = false;
  bool kmeans_buckets = false;  ///< at most bucket_count centres of the keys in place of a hash
  bool centre_keys = false;     ///< the hash sees keys minus their mean (attention itself does not change)
  bool query_blocks_by_bucket = false;  ///< a query's block is that of its own bucket's keys
  bool banded_blocks = false;
  int64_t band_width = 128;
  int64_t min_seq_len = 2048;
  Residual residual = Residual::sample;
  int64_t sample_size = 0;    ///< m; clamped to the keys of a causal node; 0: the residual is left out
  double column_share = 0.5;  ///< columns_centroids: share of m that goes to columns
  Sampling sampling = Sampling::uniform;
  bool count_collisions = false;  ///< sampled keys in the row's mask stay, and so count twice
};

/// Wall time of planning, by stage.
struct PlanningSeconds {
  double hash = 0;
  double sort = 0;
  double draw = 0;
};

/// The nodes of a problem that are approximated, and what is exact besides them. The same for every head.
struct NodeTree {
  std::vector<CausalLeaf> leaves;  ///< causal only
  std::vector<std::vector<AttentionNode>> levels;
};
[[nodiscard]] NodeTree nodes_of(const AttentionProblem& problem, int64_t min_seq_len);

/// A node of one head.
struct HeadNode {
  int64_t head = 0;
  AttentionNode node;
};

/// The nodes of a tree that are not exact, for every head: head by head, level by level.
[[nodiscard]] std::vector<HeadNode> approximated_nodes(const NodeTree& tree, int64_t heads);

/// Heavy masks of the given nodes. Streams: (seed, Purpose::hash or bucket, trial, head, node.stream).
/// Throws Error(usage) if a mask of the caller's own is wanted and the context has none, Error(input) if it
/// or a replay does not fit the problem. Parallel over nodes and rows; independent of the number of threads.
[[nodiscard]] std::vector<NodeMask> build_masks(const AttentionProblem& problem, const CallContext& context,
                                                const SparseOptions& options,
                                                const std::vector<HeadNode>& nodes, PlanningSeconds* seconds);

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
