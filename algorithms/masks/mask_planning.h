// The heavy masks of heads and causal nodes, from the options: sorted LSH and its relatives (random buckets,
// k-means centres, blocks by bucket), bands, and masks of the caller's own.
#pragma once

#include <vector>

#include "algorithms/backend.h"
#include "algorithms/masks/node_mask.h"
#include "algorithms/methods/sparse_options.h"
#include "algorithms/nodes/causal.h"
#include "core/parallel.h"
#include "core/random.h"

namespace hyperattn {

[[nodiscard]] inline RandomStream node_stream(const CallContext& context, Purpose purpose,
                                              const HeadNode& node) {
  return {context.seed, purpose, context.trial, static_cast<uint32_t>(node.head), node.node.stream};
}

/// Calls body(i) for every node: those that are more than a thread's share of all rows one after the other,
/// with the threads inside the body, then all others in parallel.
template <class Body>
void for_each_node(const std::vector<HeadNode>& nodes, const Body& body) {
  int64_t rows = 0;
  for (const HeadNode& node : nodes) rows += node.node.query_count();
  std::vector<size_t> small;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].node.query_count() * thread_count() > rows)
      body(i);
    else
      small.push_back(i);
  }
  parallel_for(static_cast<int64_t>(small.size()),
               [&](int64_t i, int) { body(small[static_cast<size_t>(i)]); });
}

/// Makes the masks of given nodes. Streams: (seed, Purpose::hash, bucket or centroid, trial, head,
/// node.stream). Everything is referred to, nothing copied. Independent of the number of threads.
class MaskPlanner {
 public:
  /// Throws Error(usage) if a mask of the caller's own is wanted and the context has none, Error(input) if it
  /// or a replay does not fit the problem. Hashes and sorts where that is done for all nodes at once.
  MaskPlanner(const AttentionProblem& problem, const CallContext& context, const SparseOptions& options,
              const std::vector<HeadNode>& nodes, PlanningSeconds* seconds);

  /// The mask of node i, once; different nodes in parallel. A node that is planned by itself is planned here,
  /// so that what its mask has read is still in cache for its residual.
  [[nodiscard]] NodeMask take(size_t i);

 private:
  const AttentionProblem& problem_;
  const CallContext& context_;
  const SparseOptions& options_;
  const std::vector<HeadNode>& nodes_;
  std::vector<HashDirections> directions_;
  std::vector<NodeMask> sorted_;  // empty: planned one by one
};

/// All masks at once. Parallel over nodes and rows.
[[nodiscard]] std::vector<NodeMask> build_masks(const AttentionProblem& problem, const CallContext& context,
                                                const SparseOptions& options,
                                                const std::vector<HeadNode>& nodes, PlanningSeconds* seconds);

}  // namespace hyperattn
