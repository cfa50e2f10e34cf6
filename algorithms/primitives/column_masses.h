// Which keys matter to many queries: the softmax mass of each key, summed over sampled queries.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/kernels/products.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/problem.h"
#include "core/memory.h"
#include "core/random.h"

namespace hyperattn {

/// Query rows that a node's masses are estimated from: as many scores as a sixteenth of a sample of 512 keys.
constexpr int64_t kMassRows = 16;

/// min(kMassRows, count) rows drawn without replacement from the node's queries; with `from_earlier`, in a
/// causal cross node, from the queries at the positions of its keys, all of which stand before its own: then
/// nothing that is made of the masses depends on the node's queries. There may be none where n_q < n_k.
[[nodiscard]] std::vector<int32_t> draw_mass_rows(const AttentionProblem& problem, const AttentionNode& node,
                                                  bool from_earlier, const RandomStream& stream);

/// Sampled queries of a head, ready to be multiplied with any rows of width d.
class SampledQueries {
 public:
  /// Query rows (one after the other) and the problem's scale.
  SampledQueries(const DenseMatrix<float>& rows, float scale);
  SampledQueries(const AttentionProblem& problem, int64_t head, const std::vector<int32_t>& rows);

  /// Base-2 scores scale·log₂e·(q · row) of rows: scores[i · columns() + q]. Queries beyond count() are
  /// padding with score 0. 2·d FLOPs a score.
  void score(MatrixView<const float> rows, float* scores) const;

  /// What rows are multiplied with: scale·log₂e·q, count() × d.
  [[nodiscard]] DenseMatrix<float> factors() const;

  [[nodiscard]] int64_t count() const { return packed_.count(); }
  [[nodiscard]] int64_t columns() const { return packed_.columns(); }  ///< count rounded up to vectors

 private:
  DenseMatrix<float> scaled_;  // scale·q
  PackedColumns packed_;
};

struct ColumnMasses {
  std::vector<float> mass;       ///< by key rank: Σ over sampled queries of their softmax weight
  std::vector<float> log2_sums;  ///< of each sampled query: log₂ Σ 2^score over the node's keys
};

/// Softmax is over all keys of the node, those of the queries' own blocks included. `key_ranks` is the rank
/// of each of the node's keys; empty: their order. 2·d FLOPs and one exponential for each of count()·n_k
/// entries, and as many floats of memory. Parallel, independent of threads.
[[nodiscard]] ColumnMasses column_masses(const AttentionProblem& problem, int64_t head,
                                         const AttentionNode& node, const std::vector<int32_t>& key_ranks,
                                         const SampledQueries& queries);

/// Keys whose weights are summed in float, and then in double over these chunks.
constexpr int64_t kMassChunk = 504;

/// The middle of it: for each chunk of keys and each query, chunk by chunk in rows of `columns`, the largest
/// score and the sum of 2^(score − largest).
struct MassChunks {
  int64_t queries = 0;
  int64_t columns = 0;
  std::vector<float> maximum;
  std::vector<float> sum;

  [[nodiscard]] std::vector<float> log2_sums() const;
  /// 2^(largest − log₂ sum): what a chunk's weights are multiplied by; 0 beyond the queries.
  [[nodiscard]] std::vector<float> factors(const std::vector<float>& log2_sums) const;
};

}  // namespace hyperattn
