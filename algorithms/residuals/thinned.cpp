// Thinned keys (primitives/thinning.h) in place of drawn ones: sample_size keys with weights 2^halvings,
// those in a row's mask left out for that row, which leaves the expectation of the others as it is.
#include <algorithm>

#include "algorithms/masks/mask_union.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/thinning.h"
#include "algorithms/residuals/residual.h"
#include "algorithms/residuals/sample.h"

namespace hyperattn {
namespace {

class ThinnedResidual final : public DescribedResidual {
 public:
  ThinnedResidual()
      : DescribedResidual({"thinned", "keys that kernel halving leaves", {thinning_delta_parameter()}}) {}

  [[nodiscard]] bool rows_may_differ() const override { return true; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const AttentionProblem& problem = request.bound.problem();
      const HeadNode& place = request.nodes[i];
      const AttentionNode& node = place.node;
      const int64_t keep = std::min(request.sample_size, node.key_count());
      const FailureShare failure{request.call.parameters.number("thinning_delta"),
                                 static_cast<double>(std::max<int64_t>(node.key_count() - keep, 1))};
      const ColumnSample sample =
          as_sample(thin_rows({problem.keys_of(place.head), problem.values_of(place.head), problem.scale},
                              node.key_begin, node.key_end, keep, failure,
                              node_stream(request.call, Purpose::thinning, place)),
                    node.key_begin);
      return sampled_passes(problem, place, mask, sample, false,
                            rows_apart_in(mask, request.rows_are_independent));
    });
  }
};

}  // namespace

const Residual& residual_thinned() {
  static const ThinnedResidual residual;
  return residual;
}

}  // namespace hyperattn
