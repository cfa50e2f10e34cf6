#include <algorithm>
#include <limits>

#include "algorithms/masks/mask.h"

namespace hyperattn {
namespace {

class BandMask final : public DescribedMask {
 public:
  BandMask()
      : DescribedMask(
            {"band",
             "the keys near the row's own position",
             {integer_parameter("band_width", "the mask holds the keys at most this far from the row's own")
                  .between(0, std::numeric_limits<int32_t>::max())
                  .by_default(128)}}) {}

  [[nodiscard]] double keys(const AttentionNode& node, const Parameters& parameters) const override {
    if (node.level > 0) return 0;  // most rows of a cross node are far from its keys
    const double width = 2 * static_cast<double>(parameters.integer("band_width")) + 1;
    return std::min(static_cast<double>(node.key_count()), width);
  }

  [[nodiscard]] std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const override {
    return node_by_node([&problem = request.bound.problem(), &nodes = request.nodes,
                         width = request.call.parameters.integer("band_width")](size_t i) {
      return band_mask(problem, nodes[i].node, width);
    });
  }
};

}  // namespace

const Mask& mask_band() {
  static const BandMask mask;
  return mask;
}

}  // namespace hyperattn
