#include <algorithm>

#include "algorithms/masks/heavy_mask.h"
#include "algorithms/masks/mask.h"
#include "core/error.h"

namespace hyperattn {
namespace {

class CallersMask final : public DescribedMask {
 public:
  CallersMask()
      : DescribedMask(
            {"file",
             "the caller's own blocks or sparse rows",
             {text_parameter(kMaskPath, "HDF5 file that holds /mask/blocks or /mask/{indptr,indices}")
                  .or_absent()}}) {}

  [[nodiscard]] std::string check(const Parameters& parameters) const override {
    return parameters.has(kMaskPath) ? "" : "mask: file needs mask_path, the HDF5 file that holds the mask";
  }
  [[nodiscard]] bool names_keys() const override { return true; }
  [[nodiscard]] bool is_callers(const Parameters&) const override { return true; }

  /// As many as a block has: what the file holds is not known before it is read.
  [[nodiscard]] double keys(const AttentionNode& node, const Parameters& parameters) const override {
    const double block =
        parameters.has("block_size") ? static_cast<double>(parameters.integer("block_size")) : 0;
    return std::min(static_cast<double>(node.key_count()), block);
  }

  [[nodiscard]] std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const override {
    const HeavyMask* given = request.call.mask;
    if (given == nullptr) fail_usage("mask: file needs a mask, but none was given (see mask_path)");
    const AttentionProblem& problem = request.bound.problem();
    given->validate(problem.heads(), problem.query_count(), problem.key_count());
    return node_by_node([given, &nodes = request.nodes](size_t i) {
      return pattern_mask(nodes[i].node, given->pattern(nodes[i].head));
    });
  }
};

}  // namespace

const Mask& mask_file() {
  static const CallersMask mask;
  return mask;
}

}  // namespace hyperattn
