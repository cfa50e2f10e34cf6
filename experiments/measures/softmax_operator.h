// The softmax matrix P of one head as an operator: products with blocks of vectors are passes of an engine
// with those vectors as values, so P is never stored.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/engine.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/problem.h"
#include "core/linear_operator.h"
#include "core/tensor.h"

namespace hyperattn {

/// One head of a problem as a problem of its own (views of the same tensors).
[[nodiscard]] AttentionProblem head_problem(const AttentionProblem& problem, int64_t head);

/// A node of one head as a problem of its own, without causal mask (views of the same tensors).
[[nodiscard]] AttentionProblem node_problem(const AttentionProblem& problem, const HeadNode& place);

/// Rows [begin, begin + count) of one head's denominators.
[[nodiscard]] RowSums part_of(const RowSums& sums, int64_t head, int64_t begin, int64_t count);

/// P_ij = w(s_ij)/D_i, n_q × n_k, of a problem of one head under given denominators D: its own, or others.
/// Both P·X and Pᵀ·Y compute weights from the same bits of scores. The tensors and the engine must outlive
/// it.
class SoftmaxMatrix {
 public:
  SoftmaxMatrix(const Engine& engine, const AttentionProblem& problem, std::shared_ptr<const RowSums> sums);

  /// Each product is one pass over the scores in the engine's precision; results are in double.
  [[nodiscard]] LinearOperator as_operator() const;
  /// log Σ_i P_ij^power for every column j (n_k), power 1 or 2. One pass over the scores.
  [[nodiscard]] std::vector<double> log_column_sums(int power) const;
  /// log Σ_j P_ij² for every row i (n_q). One pass of scores, no values.
  [[nodiscard]] std::vector<double> log_row_square_sums() const;

 private:
  const Engine& engine_;
  AttentionProblem problem_;
  std::shared_ptr<const RowSums> sums_;
  std::shared_ptr<const Plan> plan_;
};

/// Σ exp(x).
[[nodiscard]] double sum_of_exponentials(const std::vector<double>& logarithms);

/// α = (n_k²/n_q)·max_j ‖P e_j‖² from log ‖P e_j‖² of the columns, without the first `skip` of them; NaN if
/// none is left.
[[nodiscard]] double column_alpha(const std::vector<double>& log_column_square_sums, int64_t query_count,
                                  int64_t skip = 0);

}  // namespace hyperattn
