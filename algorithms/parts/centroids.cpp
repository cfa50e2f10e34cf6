#include "algorithms/parts/centroids.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/parallel.h"

namespace hyperattn {
namespace {

std::vector<int64_t> borders_of(const NodeMask& mask) {
  std::vector<int64_t> borders = {mask.keys.count};
  for (const RankRange& range : mask.ranges) {
    borders.push_back(range.begin);
    borders.push_back(range.end);
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  return borders;
}

// Offsets into `ranks` at which runs begin, and the end.
std::vector<int64_t> cut_runs(const std::vector<int32_t>& ranks, const std::vector<int64_t>& borders,
                              int64_t budget) {
  const auto total = static_cast<int64_t>(ranks.size());
  std::vector<int64_t> begins;
  int64_t begin = 0;
  for (const int64_t border : borders) {
    const int64_t end = std::lower_bound(ranks.begin() + begin, ranks.end(), border) - ranks.begin();
    // Rounded from the start of the list, so that shares below one add up.
    const int64_t pieces = std::max<int64_t>(end * budget / total - begin * budget / total, 1);
    for (int64_t piece = 0; piece < pieces && begin < end; ++piece)
      begins.push_back(begin + piece * (end - begin) / pieces);
    begin = end;
  }
  begins.push_back(total);
  begins.erase(std::unique(begins.begin(), begins.end()), begins.end());
  return begins;
}

void mean_row(MatrixView<const float> rows, const int32_t* members, int64_t count, float* mean) {
  std::vector<double> sum(static_cast<size_t>(rows.cols), 0.0);
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows.row(members[i]);
    for (size_t c = 0; c < sum.size(); ++c) sum[c] += static_cast<double>(row[c]);
  }
  for (size_t c = 0; c < sum.size(); ++c) mean[c] = static_cast<float>(sum[c] / static_cast<double>(count));
}

}  // namespace

CentroidList make_centroids(const AttentionProblem& problem, int64_t head, const NodeMask& mask,
                            const std::vector<int32_t>& ranks, int64_t budget) {
  CentroidList centroids;
  if (ranks.empty()) return centroids;
  std::vector<int64_t> begins = cut_runs(ranks, borders_of(mask), budget);
  const auto count = static_cast<int64_t>(begins.size()) - 1;
  std::vector<int32_t> members;
  members.reserve(ranks.size());
  for (const int32_t rank : ranks) members.push_back(static_cast<int32_t>(mask.keys[rank]));

  auto means = std::make_shared<SyntheticKeys>();
  means->key = Tensor<float>({1, 1, count, problem.head_dim()});
  means->value = Tensor<float>({1, 1, count, problem.value_dim()});
  auto weights = std::make_shared<std::vector<float>>(static_cast<size_t>(count));
  parallel_for(count, [&](int64_t run, int) {
    const int64_t begin = begins[static_cast<size_t>(run)];
    const int64_t size = begins[static_cast<size_t>(run) + 1] - begin;
    mean_row(problem.key.matrix(head), members.data() + begin, size, means->key.matrix(0).row(run));
    mean_row(problem.value.matrix(head), members.data() + begin, size, means->value.matrix(0).row(run));
    (*weights)[static_cast<size_t>(run)] = static_cast<float>(std::log(static_cast<double>(size)));
  });
  for (int64_t run = 0; run < count; ++run)
    centroids.first_ranks.push_back(ranks[static_cast<size_t>(begins[static_cast<size_t>(run)])]);
  means->member_order = RowOrder::list(std::move(members));
  means->member_begin = std::move(begins);
  centroids.list.order = RowOrder::run(0, count);
  centroids.list.log_weight = std::move(weights);
  centroids.list.synthetic = std::move(means);
  centroids.list.stage = Stage::sample;
  return centroids;
}

}  // namespace hyperattn
