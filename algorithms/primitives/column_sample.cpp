#include "algorithms/primitives/column_sample.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <utility>

#include "algorithms/primitives/row_sums.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kValueNormUniformShare = 0.5;

// log(1/(m·p_j)) of given rows under the mixture of `draw_by_norm`.
std::vector<float> log_weights(const std::vector<int32_t>& rows, int64_t key_count,
                               const double* squared_norms, double total, double uniform_share) {
  const auto n = static_cast<double>(key_count);
  const auto m = static_cast<double>(rows.size());
  std::vector<float> weights;
  for (const int32_t row : rows) {
    const double p = total > 0 ? uniform_share / n + (1 - uniform_share) * squared_norms[row] / total : 1 / n;
    weights.push_back(static_cast<float>(-std::log(m * p)));
  }
  return weights;
}

double sum_of(const double* values, int64_t count) {
  return std::accumulate(values, values + count, 0.0);
}

ColumnSample with_uniform_weight(std::vector<int32_t> rows, int64_t key_count) {
  ColumnSample sample;
  const auto count = static_cast<double>(rows.size());
  if (!rows.empty()) sample.uniform_log_weight = static_cast<float>(std::log(key_count / count));
  sample.rows = std::move(rows);
  return sample;
}

}  // namespace

std::vector<double> squared_row_norms(MatrixView<const float> rows) {
  constexpr int64_t kChunk = 2048;
  std::vector<double> norms(static_cast<size_t>(rows.rows));
  parallel_for((rows.rows + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    for (int64_t i = chunk * kChunk; i < std::min(rows.rows, (chunk + 1) * kChunk); ++i)
      norms[static_cast<size_t>(i)] = squared_norm(rows.row(i), rows.cols);
  });
  return norms;
}

ColumnSample draw_by_norm(int64_t count, int64_t key_count, const double* squared_norms, double uniform_share,
                          const RandomStream& stream) {
  std::vector<double> cumulative(static_cast<size_t>(key_count));
  std::partial_sum(squared_norms, squared_norms + key_count, cumulative.begin());
  const double total = cumulative.back();
  ColumnSample sample;
  for (int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<uint64_t>(2 * i);
    if (total <= 0 || stream.uniform(index) < uniform_share) {
      sample.rows.push_back(static_cast<int32_t>(stream.below(index + 1, static_cast<uint64_t>(key_count))));
      continue;
    }
    // The first row whose cumulative norm exceeds the target: rows of norm zero are never taken.
    const double target = stream.uniform(index + 1) * total;
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), target);
    sample.rows.push_back(static_cast<int32_t>(found - cumulative.begin()));
  }
  sample.log_weights = log_weights(sample.rows, key_count, squared_norms, total, uniform_share);
  return sample;
}

ColumnSample draw_columns(Sampling sampling, int64_t count, int64_t key_count, const double* squared_norms,
                          const RandomStream& stream) {
  assert(count >= 0 && key_count >= 1);
  switch (sampling) {
    case Sampling::uniform:
      return with_uniform_weight(sample_without_replacement(stream, key_count, count), key_count);
    case Sampling::uniform_iid: {
      std::vector<int32_t> rows;
      for (int64_t i = 0; i < count; ++i)
        rows.push_back(
            static_cast<int32_t>(stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(key_count))));
      return with_uniform_weight(std::move(rows), key_count);
    }
    case Sampling::value_norm:
      return draw_by_norm(count, key_count, squared_norms, kValueNormUniformShare, stream);
    case Sampling::prefix: {
      ColumnSample sample;
      sample.rows.resize(static_cast<size_t>(count));
      std::iota(sample.rows.begin(), sample.rows.end(), 0);
      return sample;
    }
  }
  return {};
}

ColumnSample weigh_columns(Sampling sampling, std::vector<int32_t> rows, int64_t key_count,
                           const double* squared_norms) {
  if (sampling == Sampling::uniform || sampling == Sampling::uniform_iid)
    return with_uniform_weight(std::move(rows), key_count);
  ColumnSample sample;
  if (sampling == Sampling::value_norm)
    sample.log_weights =
        log_weights(rows, key_count, squared_norms, sum_of(squared_norms, key_count), kValueNormUniformShare);
  sample.rows = std::move(rows);
  return sample;
}

}  // namespace hyperattn
