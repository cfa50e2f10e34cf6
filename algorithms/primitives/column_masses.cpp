#include "algorithms/primitives/column_masses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "algorithms/kernels/base2.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kChunk = 504;  // keys in a job: their scores stay in L2

// The keys of one chunk: weights 2^(score − maximum) under maxima of their own, and the sums of these.
struct ChunkSums {
  std::vector<float> maximum;
  std::vector<double> sum;
};

void exponentiate_chunk(float* scores, int64_t keys, int64_t columns, ChunkSums& chunk) {
  const auto width = static_cast<size_t>(columns);
  chunk.maximum.assign(width, -std::numeric_limits<float>::infinity());
  chunk.sum.assign(width, 0.0);
  std::vector<float> sum(width, 0.0F);
  float* maximum = chunk.maximum.data();
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) maximum[q] = std::max(maximum[q], scores[j * columns + q]);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) scores[j * columns + q] -= maximum[q];
  exponentiate_base2(scores, keys * columns);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) sum[static_cast<size_t>(q)] += scores[j * columns + q];
  for (size_t q = 0; q < width; ++q) chunk.sum[q] = static_cast<double>(sum[q]);
}

Tensor<float> gathered(MatrixView<const float> source, const std::vector<int32_t>& rows, float factor) {
  Tensor<float> copy({1, 1, static_cast<int64_t>(rows.size()), source.cols});
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t c = 0; c < source.cols; ++c)
      copy.data()[static_cast<int64_t>(i) * source.cols + c] = source.row(rows[i])[c] * factor;
  return copy;
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

SampledQueries::SampledQueries(const AttentionProblem& problem, int64_t head,
                               const std::vector<int32_t>& rows)
    : packed_(gathered(problem.query.matrix(head), rows, problem.scale).view().matrix(0), kLog2E) {}

void SampledQueries::score(MatrixView<const float> rows, float* scores) const {
  packed_.multiply(rows, nullptr, scores);
}

ColumnMasses column_masses(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                           const std::vector<int32_t>& key_ranks, const SampledQueries& queries) {
  const MatrixView<const float> keys = problem.keys_of(head);
  const int64_t count = node.key_count();
  const int64_t columns = queries.columns();
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  Buffer<float> weights(count * columns);
  std::vector<ChunkSums> sums(static_cast<size_t>(chunks));
  const auto rows_of = [&](int64_t chunk) { return std::min(kChunk, count - chunk * kChunk); };
  parallel_for(chunks, [&](int64_t chunk, int) {
    float* mine = weights.data() + chunk * kChunk * columns;
    const int64_t first = node.key_begin + chunk * kChunk;
    for (int64_t j = 0; j < rows_of(chunk); j += kProductRows) {
      prefetch_product_rows(keys, first + j + kProductRows,
                            std::min(first + j + 2 * kProductRows, node.key_end));
      const int64_t rows = std::min(kProductRows, rows_of(chunk) - j);
      queries.score({keys.row(first + j), rows, keys.cols, keys.stride}, mine + j * columns);
    }
    exponentiate_chunk(mine, rows_of(chunk), columns, sums[static_cast<size_t>(chunk)]);
  });

  ColumnMasses result;
  for (size_t q = 0; q < static_cast<size_t>(queries.count()); ++q) {
    float maximum = -std::numeric_limits<float>::infinity();
    for (const ChunkSums& chunk : sums) maximum = std::max(maximum, chunk.maximum[q]);
    double total = 0;
    for (const ChunkSums& chunk : sums)
      total += chunk.sum[q] * std::exp2(static_cast<double>(chunk.maximum[q] - maximum));
    result.log2_sums.push_back(static_cast<float>(maximum + std::log2(total)));
  }
  result.mass.resize(static_cast<size_t>(count));
  parallel_for(chunks, [&](int64_t chunk, int) {
    const float* mine = weights.data() + chunk * kChunk * columns;
    std::vector<float> factor(static_cast<size_t>(columns), 0.0F);
    for (size_t q = 0; q < result.log2_sums.size(); ++q)
      factor[q] = std::exp2(sums[static_cast<size_t>(chunk)].maximum[q] - result.log2_sums[q]);
    for (int64_t j = 0; j < rows_of(chunk); ++j) {
      float mass = 0;
#pragma omp simd reduction(+ : mass)
      for (int64_t q = 0; q < columns; ++q) mass += mine[j * columns + q] * factor[static_cast<size_t>(q)];
      const auto key = static_cast<size_t>(chunk * kChunk + j);
      result.mass[key_ranks.empty() ? key : static_cast<size_t>(key_ranks[key])] = mass;
    }
  });
  return result;
}

}  // namespace hyperattn
