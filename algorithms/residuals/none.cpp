#include "algorithms/masks/mask_union.h"
#include "algorithms/residuals/residual.h"

namespace hyperattn {
namespace {

/// The mask's blocks, left to the engine.
Pass blocks_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  pass.add_keys(mask.keys, Stage::block);
  return pass.sampled_blocks({mask.block_size, nullptr}).take();
}

class MaskAlone final : public ResidualPlanner {
 public:
  explicit MaskAlone(const ResidualRequest& request) : request_(request) {}

  [[nodiscard]] std::vector<Pass> passes(size_t i, const NodeMask& mask) const override {
    const AttentionProblem& problem = request_.bound.shapes();
    const HeadNode& place = request_.nodes[i];
    if (can_leave_blocks(request_.bound, mask)) return {blocks_pass(problem, place, mask)};
    NodeMask room;
    const NodeMask& listed = with_listed_groups(mask, room);
    const bool rows_apart = rows_apart_in(listed, request_.rows_are_independent);
    std::vector<Pass> passes = further_passes(problem, place, listed, rows_apart);
    passes.insert(passes.begin(), mask_pass(problem, place, listed));
    return passes;
  }
  [[nodiscard]] bool takes_unlisted_blocks() const override { return true; }

 private:
  ResidualRequest request_;
};

class NoResidual final : public DescribedResidual {
 public:
  NoResidual() : DescribedResidual({"none", "nothing", {}}) {}

  [[nodiscard]] bool stands_for_keys() const override { return false; }
  [[nodiscard]] bool needs_ranks() const override { return false; }
  [[nodiscard]] bool rows_may_differ() const override { return true; }
  [[nodiscard]] double entries(const AttentionNode&, double, int64_t, int64_t) const override { return 0; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return std::make_unique<MaskAlone>(request);
  }
};

}  // namespace

const Residual& residual_none() {
  static const NoResidual residual;
  return residual;
}

}  // namespace hyperattn
