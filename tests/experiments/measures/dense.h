// The quantities that the measures estimate, by dense linear algebra in double: everything n × n is stored.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"
#include "core/eigen.h"
#include "core/random.h"
#include "experiments/measures/measure.h"
#include "tests/singular_values.h"

namespace hyperattn::testing {

using Dense = RowMajorMatrix<double>;

struct MeasuredSize {
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t head_dim = 4;
  int64_t value_dim = 4;
  int64_t batch = 1;
  int64_t heads = 1;
  bool causal = false;
  double spread = 1;  // multiplies the queries: larger values concentrate the softmax
};

inline std::string to_string(const MeasuredSize& s) {
  return "n_q " + std::to_string(s.queries) + ", n_k " + std::to_string(s.keys) + ", d " +
         std::to_string(s.head_dim) + ", d_v " + std::to_string(s.value_dim) + ", batch " +
         std::to_string(s.batch) + ", heads " + std::to_string(s.heads) + ", spread " +
         std::to_string(s.spread) + (s.causal ? ", causal" : "");
}

/// A Gaussian problem that owns its tensors.
struct MeasuredProblem {
  Tensor<float> query, key, value;
  AttentionProblem problem;

  explicit MeasuredProblem(const MeasuredSize& s, uint64_t seed = 1)
      : query({s.batch, s.heads, s.queries, s.head_dim}),
        key({s.batch, s.heads, s.keys, s.head_dim}),
        value({s.batch, s.heads, s.keys, s.value_dim}),
        problem{query.view(), key.view(), value.view(), default_scale(s.head_dim), s.causal} {
    fill(query, seed, Purpose::query, s.spread);
    fill(key, seed, Purpose::key, 1);
    fill(value, seed, Purpose::value, 1);
  }

 private:
  static void fill(Tensor<float>& tensor, uint64_t seed, Purpose purpose, double factor) {
    const RandomStream stream(seed, purpose);
    for (int64_t i = 0; i < tensor.shape().size(); ++i)
      tensor.data()[i] = static_cast<float>(factor * stream.normal(static_cast<uint64_t>(i)));
  }
};

/// Log-sum-exps and softmax matrices of one head: exact, and those of a plan.
struct DenseHead {
  Dense scores;  ///< −∞ above the diagonal when causal
  Eigen::VectorXd lse;
  Dense softmax;  ///< P
  Dense value;    ///< V
  Eigen::VectorXd plan_lse;
  Dense plan_softmax;  ///< P̃

  DenseHead(const AttentionProblem& problem, const Plan& plan, int64_t head) {
    const auto q = as_eigen(problem.query.matrix(head)).cast<double>();
    const auto k = as_eigen(problem.key.matrix(head)).cast<double>();
    scores = static_cast<double>(problem.scale) * (q * k.transpose());
    if (problem.causal)
      for (int64_t i = 0; i < scores.rows(); ++i)
        scores.row(i).tail(scores.cols() - 1 - i).setConstant(-INFINITY);
    lse = log_sum_exp(scores);
    softmax = (scores.colwise() - lse).array().exp();
    value = as_eigen(problem.value.matrix(head)).cast<double>();
    take_plan(problem, plan, head);
  }

  [[nodiscard]] Dense output() const { return softmax * value; }
  [[nodiscard]] Dense error() const { return (softmax - plan_softmax) * value; }
  [[nodiscard]] Dense diagonal_difference() const {
    return (lse - plan_lse).unaryExpr([](double x) { return std::expm1(x); }).asDiagonal() * softmax;
  }
  [[nodiscard]] Dense product_difference() const {
    const Eigen::VectorXd ratio = (lse - plan_lse).array().exp();
    return (plan_softmax - ratio.asDiagonal() * softmax) * value;
  }

  [[nodiscard]] static Eigen::VectorXd log_sum_exp(const Dense& m) {
    Eigen::VectorXd result(m.rows());
    for (int64_t i = 0; i < m.rows(); ++i) {
      const double largest = m.row(i).maxCoeff();
      result[i] =
          largest == -INFINITY ? largest : largest + std::log((m.row(i).array() - largest).exp().sum());
    }
    return result;
  }

 private:
  // P̃ is what the plan makes of V = identity.
  void take_plan(AttentionProblem problem, const Plan& plan, int64_t head) {
    const int64_t keys = problem.key_count();
    Tensor<float> identity({problem.key.shape.batch, problem.key.shape.heads, keys, keys}, 0.0F);
    for (int64_t h = 0; h < problem.heads(); ++h)
      for (int64_t j = 0; j < keys; ++j) identity.matrix(h).row(j)[j] = 1;
    problem.value = identity.view();
    const DoubleResult result = run_plan_in_double(problem, plan);
    plan_softmax = as_eigen(result.out.matrix(head));
    plan_lse = Eigen::Map<const Eigen::VectorXd>(result.lse.matrix(head).data, problem.query_count());
  }
};

/// The row of a head or level, or null.
inline const FigureRow* find_row(const std::vector<FigureRow>& rows, int64_t head, int64_t level = -1) {
  for (const FigureRow& row : rows)
    if (row.head == head && row.level == level) return &row;
  return nullptr;
}

}  // namespace hyperattn::testing
