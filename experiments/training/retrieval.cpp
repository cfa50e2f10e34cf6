#include "experiments/training/retrieval.h"

#include <fmt/core.h>

#include <Eigen/Core>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/cancel.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/matrix_algebra.h"
#include "core/random.h"

namespace hyperattn {
namespace {

using Matrix = RowMajorMatrix<float>;

Matrix normal_matrix(int64_t rows, int64_t columns, uint64_t seed, Purpose purpose) {
  const RandomStream stream(seed, purpose);
  Matrix matrix(rows, columns);
  for (int64_t i = 0; i < matrix.size(); ++i)
    matrix.data()[i] = static_cast<float>(stream.normal(static_cast<uint64_t>(i)));
  return matrix;
}

struct Examples {
  Matrix query, key, value, target;
};

Examples make_examples(const RetrievalTask& task) {
  const auto noise = static_cast<float>(task.noise);
  const Matrix centres = normal_matrix(task.classes, task.dim, task.seed, Purpose::cluster);
  const Matrix class_values = normal_matrix(task.classes, task.dim, task.seed, Purpose::value);
  Examples made{noise * normal_matrix(task.length, task.dim, task.seed, Purpose::query),
                noise * normal_matrix(task.length, task.dim, task.seed, Purpose::key),
                Matrix(task.length, task.dim), Matrix(task.length, task.dim)};
  std::vector<int64_t> token(static_cast<size_t>(task.length));
  std::iota(token.begin(), token.end(), int64_t{0});
  const RandomStream shuffle(task.seed, Purpose::row_sample);
  for (uint64_t i = token.size(); i > 1; --i) std::swap(token[i - 1], token[shuffle.below(i, i)]);
  for (int64_t i = 0; i < task.length; ++i) {
    const int64_t key_class = i % task.classes;
    const int64_t query_class = token[static_cast<size_t>(i)] % task.classes;
    made.key.row(i) += centres.row(key_class);
    made.value.row(i) = class_values.row(key_class);
    made.query.row(i) += centres.row(query_class);
    made.target.row(i) = class_values.row(query_class);
  }
  return made;
}

/// Adam (Kingma and Ba, 2015) for one matrix.
class Adam {
 public:
  Adam(int64_t rows, int64_t columns, double rate)
      : rate_(rate), mean_(Matrix::Zero(rows, columns)), square_(Matrix::Zero(rows, columns)) {}

  void step(Matrix& weights, const Matrix& gradient) {
    ++steps_;
    mean_ = kBeta1 * mean_ + (1 - kBeta1) * gradient;
    square_ = kBeta2 * square_ + (1 - kBeta2) * gradient.cwiseAbs2();
    const double unbiased_mean = 1 - std::pow(kBeta1, steps_);
    const double unbiased_square = 1 - std::pow(kBeta2, steps_);
    const auto rate = static_cast<float>(rate_ / unbiased_mean);
    const auto square_factor = static_cast<float>(1 / unbiased_square);
    weights.array() -= rate * mean_.array() / ((square_factor * square_.array()).sqrt() + 1e-8F);
  }

 private:
  static constexpr float kBeta1 = 0.9F;
  static constexpr float kBeta2 = 0.999F;
  double rate_;
  int steps_ = 0;
  Matrix mean_;
  Matrix square_;
};

Tensor<float> as_tensor(const Matrix& matrix) {
  Tensor<float> tensor(TensorShape{1, 1, matrix.rows(), matrix.cols()});
  Eigen::Map<Matrix>(tensor.data(), matrix.rows(), matrix.cols()) = matrix;
  return tensor;
}

/// examples · weights.
Tensor<float> projected(const Matrix& examples, const Matrix& weights) {
  Tensor<float> tensor(TensorShape{1, 1, examples.rows(), weights.cols()});
  multiply(view_of(examples), view_of(weights), tensor.matrix(0));
  return tensor;
}

/// The gradient of the weights where that of `projected` is this.
Matrix weight_gradient(const Matrix& examples, const Tensor<float>& gradient) {
  Matrix sum(examples.cols(), gradient.shape().dim);
  transposed_multiply(view_of(examples), gradient.matrix(0), view_of(sum));
  return sum;
}

Eigen::Map<const Matrix> as_matrix(const Tensor<float>& tensor) {
  return {tensor.data(), tensor.shape().rows, tensor.shape().dim};
}

/// Half the identity with some noise: learning starts from a weak signal, not from none.
Matrix initial_weights(const RetrievalTask& task, Purpose purpose) {
  const auto dim = static_cast<float>(task.dim);
  return 0.5F * Matrix::Identity(task.dim, task.dim) +
         normal_matrix(task.dim, task.dim, task.seed, purpose) * (0.2F / std::sqrt(dim));
}

}  // namespace

std::vector<double> train_retrieval(const Backend& backend, const Parameters& parameters,
                                    const RetrievalTask& task, const TrainingOptions& options) {
  const Examples examples = make_examples(task);
  Matrix query_weights = initial_weights(task, Purpose::hash);
  Matrix key_weights = initial_weights(task, Purpose::other);
  Adam query_adam(task.dim, task.dim, options.learning_rate);
  Adam key_adam(task.dim, task.dim, options.learning_rate);
  const Tensor<float> value = as_tensor(examples.value);
  const auto entries = static_cast<float>(examples.target.size());

  std::vector<double> losses;
  for (int64_t step = 0; step <= options.steps; ++step) {
    throw_if_cancelled();
    const Tensor<float> query = projected(examples.query, query_weights);
    const Tensor<float> key = projected(examples.key, key_weights);
    const AttentionProblem problem{query.view(), key.view(), value.view(), default_scale(task.dim), false};
    Call context;
    context.parameters = parameters;
    context.seed = task.seed;
    context.trial = static_cast<uint32_t>(step);
    const ForwardState state = backend.forward(problem, context);
    const Matrix difference = as_matrix(state.result.out) - examples.target;
    losses.push_back(difference.cast<double>().squaredNorm() / static_cast<double>(difference.size()));
    if (!std::isfinite(losses.back()))
      fail_usage(
          fmt::format("train: the training diverged at step {}: its loss is not finite; a smaller "
                      "learning_rate than {} may help",
                      step, to_string(ParameterValue(options.learning_rate))));
    if (step == options.steps) break;
    const Tensor<float> output_gradient = as_tensor(difference * (2 / entries));
    const AttentionGradients gradients = backend.backward(problem, context, state, output_gradient.view());
    query_adam.step(query_weights, weight_gradient(examples.query, gradients.dquery));
    key_adam.step(key_weights, weight_gradient(examples.key, gradients.dkey));
  }
  return losses;
}

}  // namespace hyperattn
