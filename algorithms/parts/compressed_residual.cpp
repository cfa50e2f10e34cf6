#include "algorithms/parts/compressed_residual.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "algorithms/parts/centroids.h"
#include "algorithms/parts/column_masses.h"

namespace hyperattn {
namespace {

// A list whose entries each belong to the key rank of the same place: visited whole, without the group's own.
struct RankedList {
  int32_t list = 0;
  std::vector<int32_t> ranks;
};

std::vector<int32_t> all_ranks(int64_t count) {
  std::vector<int32_t> ranks(static_cast<size_t>(count));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

std::vector<int32_t> without(const std::vector<int32_t>& ranks, const std::vector<int32_t>& removed) {
  std::vector<int32_t> rest;
  std::set_difference(ranks.begin(), ranks.end(), removed.begin(), removed.end(), std::back_inserter(rest));
  return rest;
}

KeyList exact_columns(const NodeMask& mask, const std::vector<int32_t>& ranks) {
  std::vector<int32_t> rows;
  for (const int32_t rank : ranks) rows.push_back(static_cast<int32_t>(mask.keys[rank]));
  KeyList list;
  list.order = RowOrder::list(std::move(rows));
  list.stage = Stage::sample;
  return list;
}

void visit_outside(const RankedList& ranked, const NodeMask& mask, const MaskGroup& group, Pass& pass) {
  Visit visit;
  visit.list = ranked.list;
  visit.end = static_cast<int64_t>(ranked.ranks.size());
  visit.excluded_begin = static_cast<int64_t>(pass.excluded.size());
  append_masked_samples(mask, group, ranked.ranks, pass.excluded);
  visit.excluded_end = static_cast<int64_t>(pass.excluded.size());
  pass.visits.push_back(visit);
}

}  // namespace

CompressionBudget split_budget(int64_t sample_size, double column_share) {
  const int64_t columns = std::llround(column_share * static_cast<double>(sample_size));
  return {sample_size - columns, columns};
}

Pass compressed_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                     const NodeMask& mask, const CompressionBudget& budget, const RandomStream& stream) {
  Pass pass;
  pass.head = head;
  pass.node = node.number;
  pass.queries = mask.queries;
  GroupVisits masked;
  if (!mask.ranges.empty()) masked = add_masked_keys(mask, Stage::block, pass);
  std::vector<RankedList> lists;
  const auto add_list = [&](KeyList list, std::vector<int32_t> ranks) {
    if (ranks.empty()) return;
    lists.push_back({static_cast<int32_t>(pass.lists.size()), std::move(ranks)});
    pass.lists.push_back(std::move(list));
  };
  std::vector<int32_t> rest = all_ranks(mask.keys.count);
  if (budget.columns > 0) {
    const std::vector<float> masses = column_masses(problem, head, mask, stream);
    std::vector<int32_t> columns = heaviest_ranks(masses, budget.columns);
    rest = without(rest, columns);
    KeyList exact = exact_columns(mask, columns);
    add_list(std::move(exact), std::move(columns));
  }
  if (budget.centroids > 0) {
    CentroidList centroids = make_centroids(problem, head, mask, rest, budget.centroids);
    add_list(std::move(centroids.list), std::move(centroids.first_ranks));
  }
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    const auto first_visit = static_cast<int64_t>(pass.visits.size());
    if (!mask.ranges.empty())
      pass.visits.insert(pass.visits.end(), masked.visits.begin() + masked.begin[g],
                         masked.visits.begin() + masked.begin[g + 1]);
    for (const RankedList& ranked : lists) visit_outside(ranked, mask, group, pass);
    pass.groups.push_back({group.begin, group.end, first_visit, static_cast<int64_t>(pass.visits.size())});
  }
  return pass;
}

}  // namespace hyperattn
