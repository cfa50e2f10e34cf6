// The causal recursion (paper, Algorithm 4). A segment of more than min_seq_len positions is cut into halves,
// the first ⌊n/2⌋ positions and the rest: both recur, and between them lies a *cross node*, the second half's
// queries against the first half's keys, which is an unmasked problem of its own. What is not cut is a
// *leaf*. Positions are those of the keys; where there are fewer queries than keys, the rows of the first
// positions are missing, and nodes and leaves without rows drop out.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/problem.h"

namespace hyperattn {

/// Query rows against key rows that all of them may see: a cross node, or a whole problem without causal
/// mask.
struct AttentionNode {
  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t key_begin = 0;
  int64_t key_end = 0;
  int level = 0;        ///< 0: a whole problem; cross nodes: 1 for the deepest, upwards to the root
  int64_t number = 0;   ///< among the nodes of its level, from the start of the sequence
  uint32_t stream = 0;  ///< what random streams are keyed by: 0 for a whole problem, else 2^depth + place in
                        ///< the binary tree, so that no two nodes share random numbers
  bool exact = false;   ///< fewer positions than min_seq_len in its second half: not worth approximating

  [[nodiscard]] int64_t query_count() const { return query_end - query_begin; }
  [[nodiscard]] int64_t key_count() const { return key_end - key_begin; }
};

/// Whether no node of a higher level has its rows: it has no earlier keys than those of its own segment.
[[nodiscard]] inline bool rows_end_in(const AttentionNode& node) {
  return (node.stream & (node.stream - 1)) == 0;  // of the sequence's begin, or of a whole problem
}

/// Positions [begin, end).
struct CausalLeaf {
  int64_t begin = 0;
  int64_t end = 0;
};

struct CausalTree {
  std::vector<CausalLeaf> leaves;                  ///< from the start of the sequence
  std::vector<std::vector<AttentionNode>> levels;  ///< levels[l − 1]: cross nodes of level l, in order
};

/// The recursion over `positions` keys, of which the last `rows` have a query; a segment of at most
/// `min_seq_len` ≥ 1 positions is a leaf. The nodes of fewer rows are those of a square problem with their
/// first rows cut off: same streams, numbers and exactness. O(positions/min_seq_len).
[[nodiscard]] CausalTree causal_tree(int64_t rows, int64_t positions, int64_t min_seq_len);

/// The one node of a problem without causal mask.
[[nodiscard]] AttentionNode whole_problem(int64_t query_count, int64_t key_count);

/// The nodes of a problem that are approximated, and what is exact besides them. The same for every head.
struct NodeTree {
  std::vector<CausalLeaf> leaves;  ///< causal only
  std::vector<std::vector<AttentionNode>> levels;
  /// Sinks: the rows of each node that lost keys to them, against these keys; nodes that share rows apart.
  std::vector<std::vector<AttentionNode>> sinks;
};
/// The first `sink_keys` keys leave the approximated nodes and are exact for all rows that may see them; a
/// node without other keys becomes exact.
[[nodiscard]] NodeTree nodes_of(const AttentionProblem& problem, int64_t min_seq_len, int64_t sink_keys = 0);

/// A node of one head.
struct HeadNode {
  int64_t head = 0;
  AttentionNode node;
};

/// The nodes of a tree that are not exact, for every head: head by head, level by level.
[[nodiscard]] std::vector<HeadNode> approximated_nodes(const NodeTree& tree, int64_t heads);

}  // namespace hyperattn
