#include "algorithms/residuals/compressed_residual.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "algorithms/primitives/column_masses.h"
#include "algorithms/residuals/centroids.h"
#include "algorithms/residuals/moments.h"

namespace hyperattn {
namespace {

// A list whose entries each belong to the key rank of the same place: visited whole, without the group's own.
struct RankedList {
  KeyList list;
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

RankedList ranked(CentroidList centroids) {
  return {std::move(centroids.list), std::move(centroids.first_ranks)};
}

std::vector<RankedList> residual_lists(const AttentionProblem& problem, int64_t head,
                                       const AttentionNode& node, const NodeMask& mask,
                                       const Compression& compression, const RandomStream& stream) {
  std::vector<RankedList> lists;
  std::vector<int32_t> rest = all_ranks(mask.keys.count);
  if (compression.calibrated || compression.columns > 0) {
    const SampledQueries queries(problem, head, draw_mass_rows(node, compression.earlier_queries, stream));
    const ColumnMasses masses = column_masses(problem, head, node, mask, queries);
    if (compression.calibrated) {
      lists.push_back(
          ranked(make_calibrated_centroids(problem, head, mask, compression.centroids, queries, masses)));
      return lists;
    }
    std::vector<int32_t> columns = largest_places(masses.mass, compression.columns);
    rest = without(rest, columns);
    KeyList exact = exact_columns(mask, columns);
    lists.push_back({std::move(exact), std::move(columns)});
  }
  if (compression.centroids > 0 && !rest.empty())
    lists.push_back(ranked(make_centroids(problem, head, mask, rest, compression.centroids)));
  return lists;
}

void visit_outside(int32_t list, const std::vector<int32_t>& ranks, const NodeMask& mask,
                   const MaskGroup& group, Pass& pass) {
  Visit visit;
  visit.list = list;
  visit.end = static_cast<int64_t>(ranks.size());
  visit.excluded_begin = static_cast<int64_t>(pass.excluded.size());
  append_masked_samples(mask, group, ranks, pass.excluded);
  visit.excluded_end = static_cast<int64_t>(pass.excluded.size());
  pass.visits.push_back(visit);
}

}  // namespace

Compression split_budget(int64_t sample_size, double column_share) {
  // Without any centroid the other keys' mass would be lost, which only a share of 1 asks for.
  const int64_t most = column_share < 1 ? sample_size - 1 : sample_size;
  const int64_t columns =
      std::min<int64_t>(std::llround(column_share * static_cast<double>(sample_size)), most);
  Compression compression;
  compression.centroids = sample_size - columns;
  compression.columns = columns;
  return compression;
}

std::vector<int32_t> largest_places(const std::vector<float>& values, int64_t count) {
  std::vector<int32_t> places = all_ranks(static_cast<int64_t>(values.size()));
  const auto larger = [&](int32_t a, int32_t b) {
    const float value_a = values[static_cast<size_t>(a)];
    const float value_b = values[static_cast<size_t>(b)];
    return value_a != value_b ? value_a > value_b : a < b;
  };
  std::nth_element(places.begin(), places.begin() + count, places.end(), larger);
  places.resize(static_cast<size_t>(count));
  std::sort(places.begin(), places.end());
  return places;
}

Pass compressed_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                     const NodeMask& mask, const Compression& compression, const RandomStream& stream) {
  Pass pass;
  pass.head = head;
  pass.node = node.number;
  pass.queries = mask.queries;
  GroupVisits masked;
  if (!mask.ranges.empty()) masked = add_masked_keys(mask, Stage::block, pass);
  std::vector<RankedList> lists = residual_lists(problem, head, node, mask, compression, stream);
  if (compression.linear) {
    KeyList& runs = lists.back().list;
    runs.linear_value = true;
    pass.linear_values =
        std::make_shared<const LinearValues>(missed_covariance(problem, head, node, *runs.synthetic));
  }
  const auto first_list = static_cast<int32_t>(pass.lists.size());
  for (RankedList& each : lists) pass.lists.push_back(std::move(each.list));
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    const auto first_visit = static_cast<int64_t>(pass.visits.size());
    if (!mask.ranges.empty())
      pass.visits.insert(pass.visits.end(), masked.visits.begin() + masked.begin[g],
                         masked.visits.begin() + masked.begin[g + 1]);
    for (size_t l = 0; l < lists.size(); ++l)
      visit_outside(first_list + static_cast<int32_t>(l), lists[l].ranks, mask, group, pass);
    pass.groups.push_back({group.begin, group.end, first_visit, static_cast<int64_t>(pass.visits.size())});
  }
  return pass;
}

}  // namespace hyperattn
