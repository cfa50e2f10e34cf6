#include "algorithms/residuals/residual.h"

#include <algorithm>

namespace hyperattn {

double Residual::entries(const AttentionNode& node, double masked, int64_t sample_size, int64_t) const {
  const auto keys = static_cast<double>(node.key_count());
  const double drawn = std::min(keys, static_cast<double>(sample_size));
  return std::min(keys, masked + drawn) - masked;
}

bool can_leave_blocks(const BoundProblem& bound, const NodeMask& mask) {
  return bound.takes_sampled_blocks() && mask.block_size > 0 && mask.groups.empty() && mask.queries.remote &&
         mask.keys.remote && mask.further.empty();
}

Pass mask_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  const GroupVisits masked = GroupVisits::masked(mask, Stage::block, pass);
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    pass.group(mask.groups[g].begin, mask.groups[g].end);
    masked.visit(g, pass);
  }
  return pass.take();
}

}  // namespace hyperattn
