#include "algorithms/residuals/compressed.h"

#include <algorithm>
#include <utility>

#include "algorithms/nodes/node_work.h"

namespace hyperattn {

int64_t key_budget(const ResidualRequest& request, const AttentionNode& node, int64_t own_planning_keys) {
  int64_t budget = std::min(request.sample_size, node.key_count());
  if (budget < node.key_count()) budget -= request.mask_planning_keys + own_planning_keys;
  return std::max<int64_t>(budget, 1);
}

NodeMasses::NodeMasses(const ResidualRequest& request, const HeadNode& place, const NodeMask& mask)
    : queries(request.bound.gathered_rows(
                  request.bound.shapes().query.matrix(place.head),
                  draw_mass_rows(request.bound.shapes(), place.node, request.rows_are_independent,
                                 node_stream(request.call, Purpose::row_sample, place))),
              request.bound.shapes().scale),
      masses(request.bound.column_masses(place.head, place.node, mask.key_ranks, queries)) {}

Pass pass_of_lists(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                   std::vector<RankedList> lists, std::shared_ptr<const LinearValues> linear) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  const bool has_mask = !mask.ranges.empty();
  const GroupVisits masked = has_mask ? GroupVisits::masked(mask, Stage::block, pass) : GroupVisits();
  pass.with_linear_values(std::move(linear));
  std::vector<int32_t> numbers;
  for (RankedList& one : lists) numbers.push_back(pass.add_list(std::move(one.list)));
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    pass.group(group.begin, group.end);
    if (has_mask) masked.visit(g, pass);
    for (size_t l = 0; l < lists.size(); ++l) {
      std::vector<int32_t> own;
      append_masked_samples(mask, group, lists[l].ranks, own);
      pass.visit_all_except(numbers[l], own);
    }
  }
  return pass.take();
}

}  // namespace hyperattn
