#include "algorithms/nodes/causal.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace hyperattn {
namespace {

class TreeBuilder {
 public:
  TreeBuilder(int64_t offset, int64_t min_seq_len, CausalTree& tree)
      : offset_(offset), min_seq_len_(min_seq_len), tree_(tree) {}

  // Positions [begin, end); `place` is 2^depth + the segment's index at its depth.
  void cut(int64_t begin, int64_t end, size_t depth, uint32_t place) {
    const int64_t positions = end - begin;
    if (positions <= min_seq_len_) {
      tree_.leaves.push_back({begin, end});
      return;
    }
    const int64_t middle = begin + positions / 2;
    if (tree_.levels.size() <= depth) tree_.levels.resize(depth + 1);
    AttentionNode node;
    node.query_begin = std::max<int64_t>(middle - offset_, 0);
    node.query_end = std::max<int64_t>(end - offset_, 0);
    node.key_begin = begin;
    node.key_end = middle;
    node.stream = place;
    node.exact = end - middle < min_seq_len_;
    cut(begin, middle, depth + 1, 2 * place);
    tree_.levels[depth].push_back(node);
    cut(middle, end, depth + 1, 2 * place + 1);
  }

 private:
  int64_t offset_;  // position of query row 0
  int64_t min_seq_len_;
  CausalTree& tree_;
};

// After numbering, so that a node has the number that it has in a square problem.
void drop_without_rows(int64_t offset, CausalTree& tree) {
  const auto drop = [](auto& all, const auto& is_empty) {
    all.erase(std::remove_if(all.begin(), all.end(), is_empty), all.end());
  };
  drop(tree.leaves, [offset](const CausalLeaf& leaf) { return leaf.end <= offset; });
  for (std::vector<AttentionNode>& level : tree.levels)
    drop(level, [](const AttentionNode& node) { return node.query_count() == 0; });
  drop(tree.levels, [](const std::vector<AttentionNode>& level) { return level.empty(); });
}

// Takes the first keys out of the approximated nodes. Nodes of a level have rows of their own.
void take_sinks(int64_t sink_keys, NodeTree& tree) {
  for (std::vector<AttentionNode>& level : tree.levels) {
    std::vector<AttentionNode> sinks;
    for (AttentionNode& node : level) {
      if (node.exact || node.key_begin >= sink_keys) continue;
      if (node.key_end <= sink_keys) {
        node.exact = true;
        continue;
      }
      sinks.push_back(node);
      sinks.back().key_end = sink_keys;
      sinks.back().exact = true;
      node.key_begin = sink_keys;
    }
    if (!sinks.empty()) tree.sinks.push_back(std::move(sinks));
  }
}

}  // namespace

CausalTree causal_tree(int64_t rows, int64_t positions, int64_t min_seq_len) {
  assert(rows >= 1 && positions >= 1 && min_seq_len >= 1);
  const int64_t offset = positions - rows;
  CausalTree tree;
  TreeBuilder(offset, min_seq_len, tree).cut(0, positions, 0, 1);
  std::reverse(tree.levels.begin(), tree.levels.end());
  for (std::vector<AttentionNode>& level : tree.levels)
    for (size_t i = 0; i < level.size(); ++i) level[i].number = static_cast<int64_t>(i);
  drop_without_rows(offset, tree);
  for (size_t l = 0; l < tree.levels.size(); ++l)
    for (AttentionNode& node : tree.levels[l]) node.level = static_cast<int>(l) + 1;
  return tree;
}

AttentionNode whole_problem(int64_t query_count, int64_t key_count) {
  AttentionNode node;
  node.query_end = query_count;
  node.key_end = key_count;
  return node;
}

NodeTree nodes_of(const AttentionProblem& problem, int64_t min_seq_len, int64_t sink_keys) {
  NodeTree nodes;
  if (problem.causal) {
    CausalTree tree = causal_tree(problem.query_count(), problem.key_count(), min_seq_len);
    nodes.leaves = std::move(tree.leaves);
    nodes.levels = std::move(tree.levels);
  } else {
    nodes.levels = {{whole_problem(problem.query_count(), problem.key_count())}};
  }
  take_sinks(sink_keys, nodes);
  return nodes;
}

std::vector<HeadNode> approximated_nodes(const NodeTree& tree, int64_t heads) {
  std::vector<HeadNode> nodes;
  for (int64_t head = 0; head < heads; ++head)
    for (const auto& level : tree.levels)
      for (const AttentionNode& node : level)
        if (!node.exact) nodes.push_back({head, node});
  return nodes;
}

}  // namespace hyperattn
