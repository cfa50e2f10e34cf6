// What `lsh` and `hyper` are made of: a heavy mask for every head and causal node, a residual for the other
// keys, and exact leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/masks/mask.h"
#include "algorithms/method.h"
#include "algorithms/residuals/residual.h"

namespace hyperattn {

/// The keys that every row sees exactly, whatever the method does with the others.
[[nodiscard]] ParameterSpec sink_parameter();
/// Empty if there are as many keys; else what is wrong.
[[nodiscard]] std::string check_sinks(const AttentionProblem& shapes, const Parameters& parameters);

/// The parameter `mask` with the given choices, and those of each mask; then `min_seq_len`, `sink_keys`
/// and `window`.
[[nodiscard]] std::vector<ParameterSpec> mask_parameters(const std::vector<const Mask*>& masks);
/// `min_seq_len`, of every method that uses the causal recursion.
[[nodiscard]] ParameterSpec min_seq_len_parameter();
/// The nodes that `min_seq_len` and `sink_keys` ask for.
[[nodiscard]] NodeTree node_tree(const AttentionProblem& problem, const Parameters& parameters);
/// `sample_size`, `residual` with the given choices, and the parameters of each residual.
[[nodiscard]] std::vector<ParameterSpec> residual_parameters(const std::vector<const Residual*>& residuals);

/// The mask and the residual that parameters ask for; the residual `none` where the method has none or
/// sample_size is 0.
struct SparseChoice {
  const Mask* mask = nullptr;
  const Residual* residual = nullptr;
  int64_t sample_size = 0;
  int64_t window = 0;
  int64_t kept_keys = 0;  ///< of a node, by prescore; 0: all

  /// Whether a node's masks have further ones.
  [[nodiscard]] bool is_union(const Parameters& parameters) const {
    return window > 0 || mask->is_union(parameters);
  }

  explicit SparseChoice(const Parameters& parameters);
};

/// What is wrong with the parameters for such a problem, or nothing. m > n_k is wrong although causal nodes
/// clamp it.
[[nodiscard]] std::string check_sparse(const AttentionProblem& shapes, const Parameters& parameters);

/// The masks of the nodes of a call.
class NodeMasks final : public PlannedMasks {
 public:
  NodeMasks(NodeTree tree, std::vector<HeadNode> nodes, std::vector<NodeMask> masks)
      : PlannedMasks(std::move(tree), std::move(nodes)), masks_(std::move(masks)) {}

  [[nodiscard]] const std::vector<NodeMask>& masks() const { return masks_; }
  [[nodiscard]] Plan masked(const AttentionProblem& problem) const override;
  [[nodiscard]] Plan unmasked(const AttentionProblem& problem) const override;

 private:
  std::vector<NodeMask> masks_;
};

/// The masks of all approximated nodes.
[[nodiscard]] std::shared_ptr<const NodeMasks> plan_node_masks(const BoundProblem& bound, const Call& call,
                                                               PlanningSeconds* seconds);

/// Leaves, sinks and small nodes exactly, every other node by its mask and its residual.
[[nodiscard]] PlannedCall plan_sparse(const BoundProblem& bound, const Call& call);

/// Puts a plan together level by level: first leaves and sinks, then from the lowest level up exact nodes and
/// the passes of approximated nodes, each node's in phases of their own. Leaves need no planning, so an
/// engine that begins early has work while the many nodes of low levels are planned. What it needs must
/// outlive it.
class PlanAssembly {
 public:
  PlanAssembly(const AttentionProblem& problem, const NodeTree& tree, const std::vector<HeadNode>& nodes);

  /// The numbers of the approximated nodes of a level.
  [[nodiscard]] std::vector<size_t> nodes_of(const std::vector<AttentionNode>& level) const;
  /// Levels in the order of the tree, with `nodes_of` each; the passes are those of nodes in the order of
  /// `nodes`.
  void add_level(const std::vector<AttentionNode>& level, const std::vector<size_t>& own,
                 std::vector<std::vector<Pass>>& passes);
  [[nodiscard]] const Plan& so_far() { return plan_.so_far(); }
  [[nodiscard]] Plan take() { return plan_.take(); }

 private:
  void add_leaves(const std::vector<CausalLeaf>& leaves);
  /// Not of sinks, whose rows the nodes that lost them have as well.
  void add_exact(const std::vector<AttentionNode>& nodes, bool are_of_levels);

  const AttentionProblem& problem_;
  const std::vector<HeadNode>& nodes_;
  PlanBuilder plan_;
};

/// The whole plan at once, from the passes of all approximated nodes.
[[nodiscard]] Plan assemble_plan(const AttentionProblem& problem, const NodeTree& tree,
                                 const std::vector<HeadNode>& nodes, std::vector<std::vector<Pass>> passes);

/// Score entries of leaves, sinks, exact nodes, and approximated nodes in which a row computes `keys` of the
/// node.
[[nodiscard]] double estimate_node_entries(const AttentionProblem& shapes, const NodeTree& tree,
                                           const std::function<double(const AttentionNode&)>& keys);

/// Score entries that such a plan computes, from shapes alone (a mask of the caller's own counts as blocks).
[[nodiscard]] double estimate_sparse_entries(const AttentionProblem& shapes, const Parameters& parameters);

/// Bytes that planning holds.
[[nodiscard]] double estimate_sparse_bytes(const AttentionProblem& shapes, const Parameters& parameters);

/// Books wall time in the proportions of what the nodes took, each on some thread.
void share_out(double wall, const std::vector<PlanningSeconds>& spent, PlanningSeconds& seconds);

/// Books planning seconds by stage.
void book_planning(const PlanningSeconds& seconds, Diagnostics& notes);

}  // namespace hyperattn
