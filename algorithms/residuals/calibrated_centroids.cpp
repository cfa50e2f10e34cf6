#include "algorithms/residuals/compressed.h"

namespace hyperattn {
namespace {

class CalibratedCentroids final : public DescribedResidual {
 public:
  CalibratedCentroids() : DescribedResidual({"calibrated_centroids", "means by softmax mass", {}}) {}

  [[nodiscard]] bool needs_whole_blocks() const override { return true; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const HeadNode& place = request.nodes[i];
      const NodeMasses node(request, place, mask);
      std::vector<RankedList> lists;
      lists.push_back(make_calibrated_centroids(request.bound, place.head, mask,
                                                key_budget(request, place.node, kMassPlanningKeys),
                                                node.queries, node.masses));
      std::vector<Pass> passes;
      passes.push_back(pass_of_lists(request.bound.shapes(), place, mask, std::move(lists)));
      return passes;
    });
  }
};

}  // namespace

const Residual& residual_calibrated_centroids() {
  static const CalibratedCentroids residual;
  return residual;
}

}  // namespace hyperattn
