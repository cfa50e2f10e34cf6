#include "algorithms/residuals/compressed.h"

namespace hyperattn {
namespace {

// Linear values cost a product with a d × d_v matrix for each query and, with centring and packing, two for
// each key.
int64_t covariance_keys(const AttentionProblem& problem) {
  const int64_t d = problem.head_dim();
  const int64_t d_v = problem.value_dim();
  return 3 * d * d_v / (d + d_v);
}

class LinearCentroids final : public DescribedResidual {
 public:
  LinearCentroids()
      : DescribedResidual(
            {"linear_centroids", "means by softmax mass, with values linear in the query", {}}) {}

  [[nodiscard]] bool needs_whole_blocks() const override { return true; }
  [[nodiscard]] std::string no_gradient() const override {
    return "has no gradient with residual: linear_centroids; use another residual, such as "
           "calibrated_centroids";
  }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const HeadNode& place = request.nodes[i];
      const NodeMasses node(request, place, mask);
      const int64_t budget =
          key_budget(request, place.node, kMassPlanningKeys + covariance_keys(request.bound.shapes()));
      std::vector<RankedList> lists;
      lists.push_back(
          make_calibrated_centroids(request.bound, place.head, mask, budget, node.queries, node.masses));
      KeyList& runs = lists.back().list;
      runs.linear_value = true;
      auto linear = std::make_shared<const LinearValues>(
          request.bound.missed_covariance(place.head, place.node, *runs.synthetic));
      std::vector<Pass> passes;
      passes.push_back(
          pass_of_lists(request.bound.shapes(), place, mask, std::move(lists), std::move(linear)));
      return passes;
    });
  }
};

}  // namespace

const Residual& residual_linear_centroids() {
  static const LinearCentroids residual;
  return residual;
}

}  // namespace hyperattn
