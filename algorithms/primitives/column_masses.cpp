#include "algorithms/primitives/column_masses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "algorithms/kernels/tile.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kChunk = 504;      // keys in a job: their scores stay in L2
constexpr int64_t kRowsAtOnce = 24;  // a multiple of every level's register rows

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
  tile_kernels().exp2(scores, scores, keys * columns);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t q = 0; q < columns; ++q) sum[static_cast<size_t>(q)] += scores[j * columns + q];
  for (size_t q = 0; q < width; ++q) chunk.sum[q] = static_cast<double>(sum[q]);
}

}  // namespace

std::vector<int32_t> draw_mass_rows(const AttentionNode& node, bool from_earlier,
                                    const RandomStream& stream) {
  const bool earlier = from_earlier && node.level > 0;
  const int64_t first = earlier ? node.key_begin : node.query_begin;
  const int64_t count = earlier ? node.key_count() : node.query_count();
  std::vector<int32_t> rows = sample_without_replacement(stream, count, std::min(kMassRows, count));
  for (int32_t& row : rows) row += static_cast<int32_t>(first);
  return rows;
}

SampledQueries::SampledQueries(const AttentionProblem& problem, int64_t head,
                               const std::vector<int32_t>& rows)
    : count_(static_cast<int64_t>(rows.size())),
      dim_(problem.head_dim()),
      columns_(round_up(count_, tile_kernels().lanes)),
      packed_(columns_ * dim_) {
  Buffer<float> scaled(count_ * dim_);
  std::vector<const float*> pointers;
  for (int64_t q = 0; q < count_; ++q) {
    const float* row = problem.query.matrix(head).row(rows[static_cast<size_t>(q)]);
    for (int64_t c = 0; c < dim_; ++c) scaled[q * dim_ + c] = row[c] * problem.scale * kLog2E;
    pointers.push_back(scaled.data() + q * dim_);
  }
  pack_transposed(pointers.data(), count_, dim_, columns_, tile_kernels().panel, packed_.data());
}

void SampledQueries::score(const float* rows, int64_t stride, int64_t count, float* scores) const {
  MultiplyArguments product;
  product.rows = count;
  product.columns = columns_;
  product.depth = dim_;
  product.a = rows;
  product.a_row = stride;
  product.b = packed_.data();
  product.b_panel_stride = tile_kernels().panel * dim_;
  product.c = scores;
  product.c_stride = columns_;
  tile_kernels().multiply(product);
}

ColumnMasses column_masses(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                           const NodeMask& mask, const SampledQueries& queries) {
  const MatrixView<const float> keys = problem.key.matrix(head);
  const int64_t count = node.key_count();
  const int64_t columns = queries.columns();
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  Buffer<float> weights(count * columns);
  std::vector<ChunkSums> sums(static_cast<size_t>(chunks));
  const auto rows_of = [&](int64_t chunk) { return std::min(kChunk, count - chunk * kChunk); };
  parallel_for(chunks, [&](int64_t chunk, int) {
    float* mine = weights.data() + chunk * kChunk * columns;
    const int64_t first = node.key_begin + chunk * kChunk;
    for (int64_t j = 0; j < rows_of(chunk); j += kRowsAtOnce) {
      prefetch_rows(keys, first + j + kRowsAtOnce, std::min(first + j + 2 * kRowsAtOnce, node.key_end));
      queries.score(keys.row(first + j), keys.stride, std::min(kRowsAtOnce, rows_of(chunk) - j),
                    mine + j * columns);
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
      result.mass[static_cast<size_t>(mask.rank_of(chunk * kChunk + j))] = mass;
    }
  });
  return result;
}

}  // namespace hyperattn
