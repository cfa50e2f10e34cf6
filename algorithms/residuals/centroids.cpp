#include <numeric>

#include "algorithms/residuals/compressed.h"

namespace hyperattn {
namespace {

class CentroidResidual final : public DescribedResidual {
 public:
  CentroidResidual() : DescribedResidual({"centroids", "means of runs of sorted keys", {}}) {}

  [[nodiscard]] bool needs_whole_blocks() const override { return true; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const HeadNode& place = request.nodes[i];
      std::vector<int32_t> ranks(static_cast<size_t>(mask.keys.count));
      std::iota(ranks.begin(), ranks.end(), 0);
      std::vector<RankedList> lists;
      lists.push_back(
          make_centroids(request.bound, place.head, mask, ranks, key_budget(request, place.node, 0)));
      std::vector<Pass> passes;
      passes.push_back(pass_of_lists(request.bound.shapes(), place, mask, std::move(lists)));
      return passes;
    });
  }
};

}  // namespace

const Residual& residual_centroids() {
  static const CentroidResidual residual;
  return residual;
}

}  // namespace hyperattn
