#include "algorithms/primitives/column_masses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "algorithms/kernels/base2.h"
#include "algorithms/primitives/row_sums.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Weights 2^(score − maximum) of a chunk's keys under maxima of their own, and the sums of these.
void exponentiate_chunk(float* scores, int64_t keys, int64_t columns, float* maximum, float* sum) {
  std::fill_n(maximum, columns, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, columns, 0.0F);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) maximum[q] = std::max(maximum[q], scores[j * columns + q]);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) scores[j * columns + q] -= maximum[q];
  exponentiate_base2(scores, keys * columns);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) sum[q] += scores[j * columns + q];
}

DenseMatrix<float> times(DenseMatrix<float> rows, float factor) {
  for (float& x : rows.values) x *= factor;
  return rows;
}

}  // namespace

std::vector<int32_t> draw_mass_rows(const AttentionProblem& problem, const AttentionNode& node,
                                    bool from_earlier, const RandomStream& stream) {
  int64_t first = node.query_begin;
  int64_t end = node.query_end;
  if (from_earlier && node.level > 0) {
    first = std::max<int64_t>(node.key_begin - problem.causal_offset(), 0);
    end = std::max<int64_t>(node.key_end - problem.causal_offset(), 0);
  }
  const int64_t count = end - first;
  std::vector<int32_t> rows = sample_without_replacement(stream, count, std::min(kMassRows, count));
  for (int32_t& row : rows) row += static_cast<int32_t>(first);
  return rows;
}

SampledQueries::SampledQueries(const DenseMatrix<float>& rows, float scale)
    : scaled_(times(rows, scale)), packed_(scaled_, kLog2E) {}

SampledQueries::SampledQueries(const AttentionProblem& problem, int64_t head,
                               const std::vector<int32_t>& rows)
    : SampledQueries(copied_rows(problem.query.matrix(head), rows), problem.scale) {}

DenseMatrix<float> SampledQueries::factors() const {
  return times(scaled_, kLog2E);
}

void SampledQueries::score(MatrixView<const float> rows, float* scores) const {
  packed_.multiply(rows, nullptr, scores);
}

std::vector<float> MassChunks::log2_sums() const {
  std::vector<float> logs;
  for (size_t q = 0; q < static_cast<size_t>(queries); ++q) {
    float largest = -std::numeric_limits<float>::infinity();
    for (size_t i = q; i < maximum.size(); i += static_cast<size_t>(columns))
      largest = std::max(largest, maximum[i]);
    double total = 0;
    for (size_t i = q; i < maximum.size(); i += static_cast<size_t>(columns))
      total += static_cast<double>(sum[i]) * std::exp2(static_cast<double>(maximum[i] - largest));
    logs.push_back(static_cast<float>(largest + std::log2(total)));
  }
  return logs;
}

std::vector<float> MassChunks::factors(const std::vector<float>& log2_sums) const {
  std::vector<float> factors(maximum.size(), 0.0F);
  for (size_t i = 0; i < factors.size(); ++i) {
    const size_t q = i % static_cast<size_t>(columns);
    if (q < log2_sums.size()) factors[i] = std::exp2(maximum[i] - log2_sums[q]);
  }
  return factors;
}

ColumnMasses column_masses(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                           const std::vector<int32_t>& key_ranks, const SampledQueries& queries) {
  const MatrixView<const float> keys = problem.keys_of(head);
  const int64_t count = node.key_count();
  const int64_t columns = queries.columns();
  const int64_t chunks = (count + kMassChunk - 1) / kMassChunk;
  Buffer<float> weights(count * columns);
  MassChunks sums{queries.count(), columns, std::vector<float>(static_cast<size_t>(chunks * columns)), {}};
  sums.sum = sums.maximum;
  const auto rows_of = [&](int64_t chunk) { return std::min(kMassChunk, count - chunk * kMassChunk); };
  parallel_for(chunks, [&](int64_t chunk, int) {
    float* mine = weights.data() + chunk * kMassChunk * columns;
    const int64_t first = node.key_begin + chunk * kMassChunk;
    for (int64_t j = 0; j < rows_of(chunk); j += kProductRows) {
      prefetch_product_rows(keys, first + j + kProductRows,
                            std::min(first + j + 2 * kProductRows, node.key_end));
      const int64_t rows = std::min(kProductRows, rows_of(chunk) - j);
      queries.score({keys.row(first + j), rows, keys.cols, keys.stride}, mine + j * columns);
    }
    exponentiate_chunk(mine, rows_of(chunk), columns, sums.maximum.data() + chunk * columns,
                       sums.sum.data() + chunk * columns);
  });

  ColumnMasses result;
  result.log2_sums = sums.log2_sums();
  const std::vector<float> factors = sums.factors(result.log2_sums);
  result.mass.resize(static_cast<size_t>(count));
  parallel_for(chunks, [&](int64_t chunk, int) {
    const float* mine = weights.data() + chunk * kMassChunk * columns;
    for (int64_t j = 0; j < rows_of(chunk); ++j) {
      const auto key = static_cast<size_t>(chunk * kMassChunk + j);
      result.mass[key_ranks.empty() ? key : static_cast<size_t>(key_ranks[key])] =
          sum_of_products(mine + j * columns, factors.data() + chunk * columns, columns);
    }
  });
  return result;
}

}  // namespace hyperattn
