#include "experiments/measures/softmax_operator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "algorithms/plan_builder.h"
#include "core/eigen.h"

namespace hyperattn {
namespace {

/// Column sums are taken over this many parts of the rows, which are added in double.
constexpr int64_t kRowParts = 16;

template <class T>
TensorView<T> one_matrix(MatrixView<T> matrix) {
  return {matrix.data, {1, 1, matrix.rows, matrix.cols}};
}

Tensor<float> to_tensor(MatrixView<const double> block) {
  Tensor<float> tensor({1, 1, block.rows, block.cols});
  as_eigen(tensor.matrix(0)) = as_eigen(block).cast<float>();
  return tensor;
}

DenseMatrix<double> to_block(const Tensor<float>& tensor) {
  return to_dense(as_eigen(tensor.matrix(0)).cast<double>());
}

/// Denominators under which scores of twice the scale give the squares of the weights.
RowSums squared(const RowSums& sums) {
  RowSums square{Tensor<float>(sums.maximum.shape()), Tensor<double>(sums.sum.shape())};
  for (int64_t i = 0; i < sums.sum.shape().size(); ++i) {
    square.maximum.data()[i] = 2 * sums.maximum.data()[i];
    square.sum.data()[i] = sums.sum.data()[i] * sums.sum.data()[i];
  }
  return square;
}

AttentionProblem with_twice_the_scale(AttentionProblem problem) {
  problem.scale *= 2;
  return problem;
}

}  // namespace

AttentionProblem head_problem(const AttentionProblem& problem, int64_t head) {
  AttentionProblem one = problem;
  one.query = one_matrix(problem.query.matrix(head));
  one.key = one_matrix(problem.keys_of(head));
  one.value = one_matrix(problem.values_of(head));
  return one;
}

AttentionProblem node_problem(const AttentionProblem& problem, const HeadNode& place) {
  const AttentionNode& node = place.node;
  const auto rows = [](MatrixView<const float> matrix, int64_t begin, int64_t count) {
    return TensorView<const float>{matrix.row(begin), {1, 1, count, matrix.cols}};
  };
  AttentionProblem part = problem;
  part.query = rows(problem.query.matrix(place.head), node.query_begin, node.query_count());
  part.key = rows(problem.keys_of(place.head), node.key_begin, node.key_count());
  part.value = rows(problem.values_of(place.head), node.key_begin, node.key_count());
  part.causal = false;
  return part;
}

RowSums part_of(const RowSums& sums, int64_t head, int64_t begin, int64_t count) {
  RowSums part{Tensor<float>({1, 1, count, 1}), Tensor<double>({1, 1, count, 1})};
  std::copy_n(sums.maximum.matrix(head).row(begin), count, part.maximum.data());
  std::copy_n(sums.sum.matrix(head).row(begin), count, part.sum.data());
  return part;
}

SoftmaxMatrix::SoftmaxMatrix(const Engine& engine, const AttentionProblem& problem,
                             std::shared_ptr<const RowSums> sums)
    : engine_(engine),
      problem_(problem),
      sums_(std::move(sums)),
      plan_(std::make_shared<const Plan>(exact_plan(problem))) {}

LinearOperator SoftmaxMatrix::as_operator() const {
  LinearOperator p;
  p.rows = problem_.query_count();
  p.cols = problem_.key_count();
  p.apply = [self = *this](MatrixView<const double> x) {
    const Tensor<float> values = to_tensor(x);
    AttentionProblem problem = self.problem_;
    problem.value = values.view();
    EngineOptions options;
    options.denominators = self.sums_.get();
    return to_block(self.engine_.forward(*self.engine_.bind(problem, {}), *self.plan_, options).out);
  };
  p.apply_transposed = [self = *this](MatrixView<const double> y) {
    const auto bound = self.engine_.bind(self.problem_, {});
    return to_block(self.engine_.transposed(*bound, *self.plan_, *self.sums_, to_tensor(y).view()));
  };
  return p;
}

std::vector<double> SoftmaxMatrix::log_column_sums(int power) const {
  const int64_t rows = problem_.query_count();
  Tensor<float> parts({1, 1, rows, kRowParts}, 0.0F);
  for (int64_t i = 0; i < rows; ++i) parts.matrix(0).row(i)[i * kRowParts / rows] = 1;
  const auto bound = engine_.bind(power == 2 ? with_twice_the_scale(problem_) : problem_, {});
  const Tensor<float> sums = power == 2 ? engine_.transposed(*bound, *plan_, squared(*sums_), parts.view())
                                        : engine_.transposed(*bound, *plan_, *sums_, parts.view());
  std::vector<double> logs;
  for (int64_t j = 0; j < problem_.key_count(); ++j)
    logs.push_back(std::log(as_eigen(sums.matrix(0)).row(j).cast<double>().sum()));
  return logs;
}

std::vector<double> SoftmaxMatrix::log_row_square_sums() const {
  EngineOptions options;
  options.values = false;
  const auto bound = engine_.bind(with_twice_the_scale(problem_), {});
  const RowSums of_squares = engine_.forward(*bound, *plan_, options).sums;
  const RowSums square = squared(*sums_);
  std::vector<double> logs;
  for (int64_t i = 0; i < problem_.query_count(); ++i) logs.push_back(of_squares.log_ratio(i, square));
  return logs;
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
