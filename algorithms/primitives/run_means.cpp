#include "algorithms/primitives/run_means.h"

#include <algorithm>

#include "algorithms/kernels/packing.h"
#include "algorithms/kernels/routing.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Σ of share·row over members, in float within a chunk and in double over chunks.
void weighted_mean(MatrixView<const float> rows, const int32_t* members, const float* shares, int64_t count,
                   float* mean) {
  constexpr int64_t kChunk = 64;
  const auto width = static_cast<size_t>(rows.cols);
  std::vector<double> total(width, 0.0);
  std::vector<float> sum(width);
  CombineArguments chunk;
  chunk.data = rows.data;
  chunk.stride = rows.stride;
  chunk.depth = rows.cols;
  chunk.sum = sum.data();
  for (int64_t first = 0; first < count; first += kChunk) {
    chunk.rows = members + first;
    chunk.factors = shares + first;
    chunk.count = std::min(kChunk, count - first);
    for (int64_t i = 0; i < chunk.count; ++i) prefetch_row(rows.row(chunk.rows[i]), rows.cols);
    routing_kernels().combine(chunk);
    for (size_t c = 0; c < width; ++c) total[c] += static_cast<double>(sum[c]);
  }
  for (size_t c = 0; c < width; ++c) mean[c] = static_cast<float>(total[c]);
}

}  // namespace

std::shared_ptr<SyntheticKeys> run_means(const AttentionProblem& problem, int64_t head, const KeyRuns& runs) {
  auto means = std::make_shared<SyntheticKeys>();
  means->key = Tensor<float>({1, 1, runs.count(), problem.head_dim()});
  means->value = Tensor<float>({1, 1, runs.count(), problem.value_dim()});
  parallel_for(runs.count(), [&](int64_t run, int) {
    const int32_t* members = runs.members.data() + runs.begin(run);
    const float* shares = runs.shares.data() + runs.begin(run);
    weighted_mean(problem.keys_of(head), members, shares, runs.size(run), means->key.matrix(0).row(run));
    weighted_mean(problem.values_of(head), members, shares, runs.size(run), means->value.matrix(0).row(run));
  });
  return means;
}

}  // namespace hyperattn
