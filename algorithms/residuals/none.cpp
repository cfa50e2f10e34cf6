#include "algorithms/masks/mask_union.h"
#include "algorithms/residuals/residual.h"

namespace hyperattn {
namespace {

class NoResidual final : public DescribedResidual {
 public:
  NoResidual() : DescribedResidual({"none", "nothing", {}}) {}

  [[nodiscard]] bool stands_for_keys() const override { return false; }
  [[nodiscard]] bool needs_ranks() const override { return false; }
  [[nodiscard]] bool rows_may_differ() const override { return true; }
  [[nodiscard]] double entries(const AttentionNode&, double, int64_t, int64_t) const override { return 0; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const AttentionProblem& problem = request.bound.shapes();
      const bool rows_apart = rows_apart_in(mask, request.rows_are_independent);
      std::vector<Pass> passes = further_passes(problem, request.nodes[i], mask, rows_apart);
      passes.insert(passes.begin(), mask_pass(problem, request.nodes[i], mask));
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
