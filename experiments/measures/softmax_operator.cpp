#include "experiments/measures/softmax_operator.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/methods/exact.h"
#include "algorithms/plan.h"
#include "core/eigen.h"

namespace hyperattn {
namespace {

template <class T>
TensorView<T> head_view(TensorView<T> tensor, int64_t head) {
  return {tensor.matrix(head).data, {1, 1, tensor.shape.rows, tensor.shape.dim}};
}

Tensor<float> to_tensor(MatrixView<const double> block) {
  Tensor<float> tensor({1, 1, block.rows, block.cols});
  as_eigen(tensor.matrix(0)) = as_eigen(block).cast<float>();
  return tensor;
}

// out_i = Σ_j w_ij exp(s_ij − normaliser_i) x_j.
DenseMatrix<double> weighted_sums(AttentionProblem problem, const Plan& plan, const float* normaliser,
                                  MatrixView<const double> x) {
  const Tensor<float> values = to_tensor(x);
  problem.value = values.view();
  EngineOptions options;
  options.row_normaliser = normaliser;
  const AttentionResult result = run_forward(problem, plan, options);
  return to_dense(as_eigen(result.out.matrix(0)).cast<double>());
}

std::vector<double> log_sums(const AttentionProblem& problem, const Plan& plan) {
  EngineOptions options;
  options.values = false;
  const Tensor<float> lse = run_forward(problem, plan, options).lse;
  return {lse.data(), lse.data() + lse.shape().size()};
}

// Keys attend to queries.
AttentionProblem exchanged(const AttentionProblem& problem) {
  AttentionProblem other = problem;
  std::swap(other.query, other.key);
  other.value = other.key;  // a place holder of the right length
  return other;
}

RowOrder reversed_rows(int64_t count) {
  std::vector<int32_t> rows(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = static_cast<int32_t>(count - 1 - i);
  return RowOrder::list(std::move(rows));
}

// Every entry of the exchanged problem, query i with weight exp(−power · lse_i).
Plan exchanged_plan(const AttentionProblem& problem, const float* lse, int power) {
  const int64_t queries = problem.query_count();
  const int64_t keys = problem.key_count();
  Pass pass;
  pass.triangular = problem.causal;
  pass.queries = problem.causal ? reversed_rows(keys) : RowOrder::run(0, keys);
  KeyList list;
  list.order = problem.causal ? reversed_rows(queries) : RowOrder::run(0, queries);
  std::vector<float> log_weight(static_cast<size_t>(queries));
  for (int64_t rank = 0; rank < queries; ++rank)
    log_weight[static_cast<size_t>(rank)] = -static_cast<float>(power) * lse[list.order[rank]];
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(log_weight));
  pass.lists.push_back(std::move(list));
  pass.groups.push_back({0, keys, 0, 1});
  pass.visits.push_back({0, 0, queries, 0, 0});
  Plan plan;
  plan.phases.emplace_back();
  plan.phases[0].passes.push_back(std::move(pass));
  return plan;
}

}  // namespace

AttentionProblem head_problem(const AttentionProblem& problem, int64_t head) {
  AttentionProblem one = problem;
  one.query = head_view(problem.query, head);
  one.key = head_view(problem.key, head);
  one.value = head_view(problem.value, head);
  return one;
}

AttentionProblem node_problem(const AttentionProblem& problem, const HeadNode& place) {
  const AttentionNode& node = place.node;
  const auto rows = [&](TensorView<const float> tensor, int64_t begin, int64_t count) {
    return TensorView<const float>{tensor.matrix(place.head).row(begin), {1, 1, count, tensor.shape.dim}};
  };
  AttentionProblem part = problem;
  part.query = rows(problem.query, node.query_begin, node.query_count());
  part.key = rows(problem.key, node.key_begin, node.key_count());
  part.value = rows(problem.value, node.key_begin, node.key_count());
  part.causal = false;
  return part;
}

LinearOperator softmax_operator(const AttentionProblem& problem, const float* lse) {
  LinearOperator p;
  p.rows = problem.query_count();
  p.cols = problem.key_count();
  const auto plan = std::make_shared<const Plan>(exact_plan(problem));
  p.apply = [problem, plan, lse](MatrixView<const double> x) {
    return weighted_sums(problem, *plan, lse, x);
  };
  const auto transposed = std::make_shared<const Plan>(exchanged_plan(problem, lse, 1));
  const auto zeros = std::make_shared<const std::vector<float>>(static_cast<size_t>(p.cols), 0.0F);
  p.apply_transposed = [problem = exchanged(problem), transposed, zeros](MatrixView<const double> y) {
    return weighted_sums(problem, *transposed, zeros->data(), y);
  };
  return p;
}

std::vector<double> log_column_sums(const AttentionProblem& problem, const float* lse, int power) {
  AttentionProblem other = exchanged(problem);
  other.scale *= static_cast<float>(power);
  return log_sums(other, exchanged_plan(problem, lse, power));
}

std::vector<double> log_row_square_sums(const AttentionProblem& problem, const float* lse) {
  AttentionProblem doubled = problem;
  doubled.scale *= 2;
  std::vector<double> log_sum = log_sums(doubled, exact_plan(problem));
  for (size_t i = 0; i < log_sum.size(); ++i) log_sum[i] -= 2 * static_cast<double>(lse[i]);
  return log_sum;
}

double sum_of_exponentials(const std::vector<double>& logarithms) {
  return as_eigen(logarithms).array().exp().sum();
}

double column_alpha(const std::vector<double>& log_column_square_sums, int64_t query_count, int64_t skip) {
  const auto keys = static_cast<int64_t>(log_column_square_sums.size());
  if (skip >= keys) return std::numeric_limits<double>::quiet_NaN();
  const double largest = as_eigen(log_column_square_sums).tail(keys - skip).maxCoeff<Eigen::PropagateNaN>();
  const auto n = static_cast<double>(keys);
  return n * n / static_cast<double>(query_count) * std::exp(largest);
}

}  // namespace hyperattn
