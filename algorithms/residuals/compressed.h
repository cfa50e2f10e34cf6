// What the residuals without a sample share: the other keys' lists, visited whole but for a row's own runs,
// and how many keys are left of the budget once planning is paid for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/residuals/residual.h"
#include "algorithms/residuals/runs.h"

namespace hyperattn {

/// Keys that may stand for a node's others: sample_size (at most the node's keys), less, where that is not
/// all of them, the planning of the mask and `own_planning_keys`; at least one.
[[nodiscard]] int64_t key_budget(const ResidualRequest& request, const AttentionNode& node,
                                 int64_t own_planning_keys);

/// What a query that masses are estimated from costs, in keys a row: it is compared with every key, and a key
/// costs its score and its value.
constexpr int64_t kMassPlanningKeys = kMassRows / 2;

/// The queries that a node's masses are estimated from (stream Purpose::row_sample), and the masses.
struct NodeMasses {
  SampledQueries queries;
  ColumnMasses masses;

  NodeMasses(const ResidualRequest& request, const HeadNode& place, const NodeMask& mask);
};

/// The mask's entries with weight 1 and every list but for the entries that stand for keys of a row's own
/// mask. Exact where every key stands for itself. `linear`: the pass's linear values, or null.
[[nodiscard]] Pass pass_of_lists(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                                 std::vector<RankedList> lists,
                                 std::shared_ptr<const LinearValues> linear = nullptr);

}  // namespace hyperattn
