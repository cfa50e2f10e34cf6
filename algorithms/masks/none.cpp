#include "algorithms/masks/mask.h"
#include "algorithms/masks/query_blocks.h"

namespace hyperattn {
namespace {

class NoMask final : public DescribedMask {
 public:
  NoMask() : DescribedMask({"none", "nothing", {query_blocks_parameter()}}) {}

  [[nodiscard]] bool whole_blocks(const Parameters&) const override { return true; }
  [[nodiscard]] bool rows_are_independent(const Parameters& parameters) const override {
    return rows_keep_to_their_buckets(parameters);
  }
  [[nodiscard]] double keys(const AttentionNode&, const Parameters&) const override { return 0; }
  [[nodiscard]] std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const override {
    return node_by_node([&nodes = request.nodes](size_t i) { return empty_mask(nodes[i].node); });
  }
};

}  // namespace

const Mask& mask_none() {
  static const NoMask mask;
  return mask;
}

}  // namespace hyperattn
