// Pre-scoring (Li et al., arXiv 2505.11040): in every node the keys of the highest scores alone go to mask
// and residual, the others have weight 0. The scores are of the keys alone:
//   leverage          k_jᵀ (KᵀK + λI)⁻¹ k_j with λ = 10⁻³·tr(KᵀK)/d: keys that no others stand for
//   kmeans_distance   ‖k_j − c_j‖ / Σ_{l in the cluster of j} ‖k_l − c_j‖, c_j the nearest of
//                     min(256, kept/4) k-means centres: outliers
//   kmeans_centre     exp(−the same): keys near their centres
// What is planned for the kept keys is an ordinary plan of a problem with fewer keys, whose rows are then
// named as before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/call.h"
#include "algorithms/masks/node_mask.h"
#include "algorithms/plan.h"
#include "core/parameters.h"

namespace hyperattn {

/// `prescore` and `prescore_keys`.
[[nodiscard]] std::vector<ParameterSpec> prescore_parameters();
[[nodiscard]] bool is_prescored(const Parameters& parameters);

/// The scores of a node's keys. Deterministic; 2·d² FLOPs a key for leverage, in double, and 2·d for each of
/// the centres for k-means.
[[nodiscard]] std::vector<float> key_scores(const BoundProblem& bound, const HeadNode& place,
                                            const std::string& kind, int64_t kept,
                                            const RandomStream& stream);

/// The kept keys of every node, as a problem whose keys they are.
class KeptKeys {
 public:
  KeptKeys(const BoundProblem& bound, const Call& call, const std::vector<HeadNode>& nodes);

  /// Every head has keys of its own: those of its nodes, one after the other.
  [[nodiscard]] const BoundProblem& bound() const { return *bound_; }
  [[nodiscard]] const std::vector<HeadNode>& nodes() const { return nodes_; }

  /// A pass or a mask of node i of that problem, with the rows of the problem that was given. In the mask,
  /// keys that were dropped come after all others, and no row holds them.
  [[nodiscard]] Pass renamed(size_t i, Pass pass) const;
  [[nodiscard]] NodeMask renamed(size_t i, NodeMask mask) const;

 private:
  [[nodiscard]] RowOrder renamed_rows(size_t head, const RowOrder& order) const;

  const AttentionProblem& whole_;
  const std::vector<HeadNode>& whole_nodes_;
  std::vector<HeadNode> nodes_;
  std::vector<std::vector<int32_t>> rows_;  ///< by head: key rows of the whole problem
  Tensor<float> key_;
  Tensor<float> value_;
  std::unique_ptr<BoundProblem> bound_;
};

}  // namespace hyperattn
