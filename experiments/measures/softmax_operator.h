// The softmax matrix P of one head as an operator: products with blocks of vectors are passes of the engine
// with those vectors as values, so P is never stored.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/methods/sparse_plan.h"
#include "algorithms/problem.h"
#include "core/linear_operator.h"
#include "core/tensor.h"

namespace hyperattn {

/// One head of a problem as a problem of its own (views of the same tensors).
[[nodiscard]] AttentionProblem head_problem(const AttentionProblem& problem, int64_t head);

/// A node of one head as a problem of its own, without causal mask (views of the same tensors).
[[nodiscard]] AttentionProblem node_problem(const AttentionProblem& problem, const HeadNode& place);

/// P_ij = exp(s_ij − lse_i), n_q × n_k, of a problem of one head, `lse` being its exact log-sum-exps (n_q).
/// P·X runs the exact plan under these normalisers. Pᵀ·Y exchanges queries and keys: Σ_i exp(s_ij − lse_i)
/// y_i is attention to the "keys" q_i with log-weights −lse_i, without division. Under a causal mask Pᵀ is
/// upper triangular, which becomes lower triangular when both orders are reversed. Each product is one pass
/// of fp32 scores, relative accuracy about 1e-6; results are in double. The tensors and `lse` must outlive
/// it.
[[nodiscard]] LinearOperator softmax_operator(const AttentionProblem& problem, const float* lse);

/// log Σ_i P_ij^power for every column j (n_k), for a problem of one head. One pass of scores, no values.
[[nodiscard]] std::vector<double> log_column_sums(const AttentionProblem& problem, const float* lse,
                                                  int power);

/// log Σ_j P_ij² for every row i (n_q), for a problem of one head. One pass of scores, no values.
[[nodiscard]] std::vector<double> log_row_square_sums(const AttentionProblem& problem, const float* lse);

/// Σ exp(x) of logarithms x.
[[nodiscard]] double sum_of_exponentials(const std::vector<double>& logarithms);

/// α = (n_k²/n_q)·max_j ‖P e_j‖² from log ‖P e_j‖² of the columns, without the first `skip` of them; NaN if
/// none is left.
[[nodiscard]] double column_alpha(const std::vector<double>& log_column_square_sums, int64_t query_count,
                                  int64_t skip = 0);

}  // namespace hyperattn
