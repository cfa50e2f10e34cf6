#include "algorithms/residuals/residual.h"

namespace hyperattn {
namespace {

class NoResidual final : public DescribedResidual {
 public:
  NoResidual() : DescribedResidual({"none", "nothing", {}}) {}

  [[nodiscard]] bool stands_for_keys() const override { return false; }
  [[nodiscard]] bool needs_ranks() const override { return false; }
  [[nodiscard]] double entries(const AttentionNode&, double, int64_t, int64_t) const override { return 0; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node(
        [&problem = request.bound.problem(), &nodes = request.nodes](size_t i, const NodeMask& mask) {
          std::vector<Pass> passes;
          passes.push_back(mask_pass(problem, nodes[i], mask));
          return passes;
        });
  }
};

}  // namespace

const Residual& residual_none() {
  static const NoResidual residual;
  return residual;
}

}  // namespace hyperattn
