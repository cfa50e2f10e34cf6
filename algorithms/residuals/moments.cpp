// All keys as one Gaussian (KeyMoments in plan.h) in place of those outside a row's mask: right in number,
// with the spread of all. Exact where the mask holds all keys, and where all keys and values of the node are
// equal.
#include <memory>

#include "algorithms/residuals/residual.h"

namespace hyperattn {
namespace {

Pass moments_pass(const BoundProblem& bound, const HeadNode& place, const NodeMask& mask) {
  PassBuilder pass(bound.shapes(), place.head, place.node.number, mask.queries);
  const bool has_mask = !mask.ranges.empty();
  const GroupVisits masked = has_mask ? GroupVisits::masked(mask, Stage::block, pass) : GroupVisits();
  bool wanted = false;
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    const int64_t outside = place.node.key_count() - held_keys(mask, group);
    pass.group(group.begin, group.end);
    if (has_mask) masked.visit(g, pass);
    pass.visit_moments(outside);
    wanted = wanted || outside > 0;
  }
  if (wanted)
    pass.with_moments(std::make_shared<const KeyMoments>(bound.key_moments(place.head, place.node)));
  return pass.take();
}

class MomentsResidual final : public DescribedResidual {
 public:
  MomentsResidual() : DescribedResidual({"moments", "one Gaussian", {}}) {}

  [[nodiscard]] bool counts_keys() const override { return false; }
  [[nodiscard]] bool needs_ranks() const override { return false; }
  [[nodiscard]] std::string no_gradient() const override {
    return "has no gradient with residual: moments; use another residual, such as calibrated_centroids";
  }
  [[nodiscard]] double entries(const AttentionNode& node, double masked, int64_t,
                               int64_t head_dim) const override {
    return masked < static_cast<double>(node.key_count()) ? static_cast<double>(head_dim) : 0;
  }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([&bound = request.bound, &nodes = request.nodes](size_t i, const NodeMask& mask) {
      std::vector<Pass> passes;
      passes.push_back(moments_pass(bound, nodes[i], mask));
      return passes;
    });
  }
};

}  // namespace

const Residual& residual_moments() {
  static const MomentsResidual residual;
  return residual;
}

}  // namespace hyperattn
