#include "algorithms/residuals/columns.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "algorithms/residuals/compressed.h"

namespace hyperattn {
namespace {

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

RankedList exact_columns(const NodeMask& mask, std::vector<int32_t> ranks) {
  std::vector<int32_t> rows;
  for (const int32_t rank : ranks) rows.push_back(static_cast<int32_t>(mask.keys[rank]));
  RankedList columns;
  columns.list.order = RowOrder::list(std::move(rows));
  columns.list.stage = Stage::sample;
  columns.ranks = std::move(ranks);
  return columns;
}

class ColumnsAndCentroids final : public DescribedResidual {
 public:
  ColumnsAndCentroids()
      : DescribedResidual(
            {"columns+centroids",
             "the heaviest keys exactly, and means of the others",
             {number_parameter("column_share", "share of sample_size that goes to exact columns")
                  .between(0, 1)
                  .by_default(0.5)}}) {}

  [[nodiscard]] bool needs_whole_blocks() const override { return true; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const HeadNode& place = request.nodes[i];
      const ColumnBudget budget = split_budget(key_budget(request, place.node, kMassPlanningKeys),
                                               request.call.parameters.number("column_share"));
      std::vector<RankedList> lists;
      std::vector<int32_t> rest = all_ranks(mask.keys.count);
      if (budget.columns > 0) {
        const NodeMasses node(request, place, mask);
        std::vector<int32_t> columns = largest_places(node.masses.mass, budget.columns);
        rest = without(rest, columns);
        lists.push_back(exact_columns(mask, std::move(columns)));
      }
      if (budget.centroids > 0 && !rest.empty())
        lists.push_back(make_centroids(request.bound, place.head, mask, rest, budget.centroids));
      std::vector<Pass> passes;
      passes.push_back(pass_of_lists(request.bound.shapes(), place, mask, std::move(lists)));
      return passes;
    });
  }
};

}  // namespace

ColumnBudget split_budget(int64_t sample_size, double column_share) {
  // Without any centroid the other keys' mass would be lost, which only a share of 1 asks for.
  const int64_t most = column_share < 1 ? sample_size - 1 : sample_size;
  const int64_t columns =
      std::min<int64_t>(std::llround(column_share * static_cast<double>(sample_size)), most);
  return {sample_size - columns, columns};
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

const Residual& residual_columns() {
  static const ColumnsAndCentroids residual;
  return residual;
}

}  // namespace hyperattn
