#include "algorithms/masks/band.h"

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

  [[nodiscard]] bool names_keys() const override { return true; }
  [[nodiscard]] double keys(const AttentionNode& node, const Parameters& parameters) const override {
    return band_keys(static_cast<double>(node.key_count()), node.level,
                     static_cast<double>(parameters.integer("band_width")));
  }

  [[nodiscard]] std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const override {
    return node_by_node([&problem = request.bound.shapes(), &nodes = request.nodes,
                         width = request.call.parameters.integer("band_width")](size_t i) {
      return band_mask(problem, nodes[i].node, width);
    });
  }
};

}  // namespace

ParameterSpec window_parameter() {
  return integer_parameter("window",
                           "keys at most this far from the row's own are exact beside the mask's; 0: none")
      .between(0, std::numeric_limits<int32_t>::max())
      .by_default(int64_t{0});
}

double band_keys(double node_keys, int level, double width) {
  if (level > 0) return 0;  // most rows of a cross node are far from its keys
  return std::min(node_keys, 2 * width + 1);
}

const Mask& mask_band() {
  static const BandMask mask;
  return mask;
}

}  // namespace hyperattn
