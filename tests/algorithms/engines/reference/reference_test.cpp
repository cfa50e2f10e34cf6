#include "algorithms/engines/reference/reference_plan.h"

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <cmath>

#include "algorithms/backend.h"
#include "algorithms/check_plan.h"
#include "algorithms/plan_builder.h"
#include "core/eigen.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

// Fewer queries than keys and more, with and without a causal mask, grouped queries, and windows.
const ProblemSize kSizes[] = {
    {1, 1, 1, 1},
    {7, 7, 3, 3, 2, 2},
    {5, 11, 4, 2},
    {11, 5, 2, 7},
    {13, 13, 5, 3, 1, 2, true},
    {1, 1, 2, 2, 1, 1, true},
    {5, 11, 4, 2, 1, 2, true},
    {11, 5, 2, 7, 2, 1, true},
    {7, 9, 3, 3, 2, 6, false, 2},
    {13, 13, 5, 3, 1, 4, true, 1},
    {13, 13, 5, 3, 1, 1, true, 0, 4},
    {6, 13, 5, 3, 1, 4, true, 2, 5},
};

TEST_CASE("two keys by hand: weights 1/(1+e) and e/(1+e)") {
  RandomProblem p({1, 2, 1, 1});
  p.query.data()[0] = 1;
  p.key.data()[0] = 0;
  p.key.data()[1] = 1;
  p.value.data()[0] = 10;
  p.value.data()[1] = 20;
  const DoubleResult exact = attention_in_double(p.problem);
  const double e = std::exp(1.0);
  CHECK(exact.out.data()[0] == Approx((10 + 20 * e) / (1 + e)).epsilon(1e-14));
  CHECK(exact.lse.data()[0] == Approx(std::log(1 + e)).epsilon(1e-14));
}

// One head of exact attention and its gradient by dense matrices, which share nothing with plans:
//   P = softmax(S),  dV = Pᵀ·dO,  dS = P ∘ (dO·Vᵀ − rowsum(P ∘ dO·Vᵀ)),  dQ = s·dS·K,  dK = s·dSᵀ·Q.
struct DenseHead {
  int64_t key_head = 0;
  Matrix out;
  Eigen::VectorXd lse;  // −∞ in a row without keys
  Matrix dquery;
  Matrix dkey;  // what this head adds to its key head's
  Matrix dvalue;

  DenseHead(const RandomProblem& p, int64_t head)
      : key_head(head * p.key.shape().matrices() / p.query.shape().matrices()) {
    const Matrix q = as_eigen(p.query.matrix(head)).cast<double>();
    const Matrix k = as_eigen(p.key.matrix(key_head)).cast<double>();
    const Matrix v = as_eigen(p.value.matrix(key_head)).cast<double>();
    const Matrix upstream = as_eigen(p.dout.matrix(head)).cast<double>();
    const auto scale = static_cast<double>(p.problem.scale);
    Matrix softmax = (scale * q * k.transpose()).array().exp();
    for (int64_t i = 0; i < q.rows(); ++i)
      for (int64_t j = 0; j < k.rows(); ++j)
        if (!sees(p.problem, i, j)) softmax(i, j) = 0;
    const Eigen::VectorXd sums = softmax.rowwise().sum();
    lse = sums.array().log();
    softmax = (sums.array() > 0).select(sums.cwiseInverse(), 0).matrix().asDiagonal() * softmax;
    out = softmax * v;
    const Matrix along_value = upstream * v.transpose();
    const Eigen::VectorXd along_out = softmax.cwiseProduct(along_value).rowwise().sum();
    const Matrix dscores = softmax.cwiseProduct(along_value.colwise() - along_out);
    dquery = scale * dscores * k;
    dkey = scale * dscores.transpose() * q;
    dvalue = softmax.transpose() * upstream;
  }

 private:
  static bool sees(const AttentionProblem& problem, int64_t row, int64_t key) {
    const int64_t position = row + problem.key_count() - problem.query_count();
    return !problem.causal || (key <= position && (problem.window == 0 || key > position - problem.window));
  }
};

double difference(MatrixView<const double> seen, const Matrix& expected) {
  return (as_eigen(seen) - expected).cwiseAbs().maxCoeff();
}

TEST_CASE("the plan interpreter on the exact plan is exact attention") {
  for (const ProblemSize& size : kSizes) {
    INFO(to_string(size));
    const RandomProblem p(size);
    const Plan plan = exact_plan(p.problem);
    CHECK(check_plan(p.problem, plan).empty());
    CHECK(is_exact_plan(p.problem, plan));
    const DoubleResult planned = attention_in_double(p.problem);
    const DoubleGradients gradients = attention_gradients_in_double(p.problem, planned, p.dout.view());
    std::vector<Matrix> dkey(static_cast<size_t>(p.problem.key_heads()),
                             Matrix::Zero(size.keys, size.head_dim));
    std::vector<Matrix> dvalue(dkey.size(), Matrix::Zero(size.keys, size.value_dim));
    for (int64_t head = 0; head < p.problem.heads(); ++head) {
      const DenseHead exact(p, head);
      INFO("head " << head);
      CHECK(difference(planned.out.matrix(head), exact.out) < 1e-13);
      for (int64_t i = 0; i < size.queries; ++i) {
        const double lse = planned.lse.matrix(head).row(i)[0];
        CHECK((lse == exact.lse[i] || std::abs(lse - exact.lse[i]) < 1e-13));
      }
      CHECK(difference(gradients.dquery.matrix(head), exact.dquery) < 1e-12);
      dkey[static_cast<size_t>(exact.key_head)] += exact.dkey;
      dvalue[static_cast<size_t>(exact.key_head)] += exact.dvalue;
    }
    for (int64_t head = 0; head < p.problem.key_heads(); ++head) {
      CHECK(difference(gradients.dkey.matrix(head), dkey[static_cast<size_t>(head)]) < 1e-12);
      CHECK(difference(gradients.dvalue.matrix(head), dvalue[static_cast<size_t>(head)]) < 1e-12);
    }
  }
}

TEST_CASE("scores of +-80 and beyond neither overflow nor vanish") {
  RandomProblem p({3, 4, 1, 1});
  p.problem.scale = 1;
  for (int i = 0; i < 4; ++i) p.key.data()[i] = static_cast<float>(i);
  p.query.data()[0] = 1e4F;
  p.query.data()[1] = -1e4F;
  p.query.data()[2] = 0;
  const DoubleResult exact = attention_in_double(p.problem);
  CHECK(exact.lse.data()[0] == Approx(3e4));
  CHECK(exact.lse.data()[1] == Approx(0).margin(1e-12));
  CHECK(exact.lse.data()[2] == Approx(std::log(4.0)));
  CHECK(exact.out.data()[0] == Approx(p.value.data()[3]));
  CHECK(exact.out.data()[1] == Approx(p.value.data()[0]));
}

// ⟨out, dout⟩ in double of problems whose inputs are floats moved by exactly representable steps.
double objective(const RandomProblem& p, const Plan& plan) {
  const DoubleResult forward = run_plan_in_double(p.problem, plan);
  double sum = 0;
  for (int64_t i = 0; i < forward.out.shape().size(); ++i) sum += forward.out.data()[i] * p.dout.data()[i];
  return sum;
}

void check_against_differences(RandomProblem& p, const Plan& plan, Tensor<float>& input,
                               const Tensor<double>& gradient) {
  for (int64_t i = 0; i < input.shape().size(); ++i) {
    const float middle = input.data()[i];
    const float up = middle + 0x1p-9F;
    const float down = middle - 0x1p-9F;
    input.data()[i] = up;
    const double above = objective(p, plan);
    input.data()[i] = down;
    const double below = objective(p, plan);
    input.data()[i] = middle;
    const double slope = (above - below) / (static_cast<double>(up) - static_cast<double>(down));
    INFO("entry " << i);
    CHECK(gradient.data()[i] == Approx(slope).margin(2e-5));
  }
}

// Weights, exclusions, a removed key, a synthetic key, an untouched row and two phases in one plan.
Plan plan_with_everything(const AttentionProblem& problem) {
  Pass first;
  first.queries = RowOrder::list({3, 0, 2, 1});
  first.lists.resize(1);
  first.lists[0].order = RowOrder::list({4, 1, 0, 3});
  first.lists[0].stage = Stage::block;
  first.lists[0].log_weight =
      std::make_shared<const std::vector<float>>(std::vector<float>{0.5F, -INFINITY, -1, 0});
  first.groups = {{0, 1, 0, 1}, {1, 3, 1, 2}};
  first.visits = {{0, 0, 3, 0, 0}, {0, 1, 4, 0, 1}};
  first.excluded = {2};
  auto centroids = std::make_shared<SyntheticKeys>();
  centroids->member_order = RowOrder::list({1, 2, 4});
  centroids->member_begin = {0, 3};
  const int64_t d = problem.head_dim();
  const int64_t d_v = problem.value_dim();
  centroids->key = Tensor<float>({1, 1, 1, d}, 0.0F);
  centroids->value = Tensor<float>({1, 1, 1, d_v}, 0.0F);
  for (const int64_t row : {1, 2, 4}) {
    for (int64_t c = 0; c < d; ++c) centroids->key.data()[c] += problem.key.matrix(0).row(row)[c] / 3;
    for (int64_t c = 0; c < d_v; ++c) centroids->value.data()[c] += problem.value.matrix(0).row(row)[c] / 3;
  }
  Pass second;
  second.queries = RowOrder::run(1, 3);
  second.lists.resize(1);
  second.lists[0].order = RowOrder::run(0, 1);
  second.lists[0].uniform_log_weight = std::log(3.0F);
  second.lists[0].synthetic = centroids;
  second.lists[0].stage = Stage::sample;
  second.groups = {{0, 2, 0, 1}};
  second.visits = {{0, 0, 1, 0, 0}};
  Plan plan;
  plan.phases.resize(2);
  plan.phases[0].passes.push_back(std::move(first));
  plan.phases[1].passes.push_back(std::move(second));
  return plan;
}

TEST_CASE("gradients agree with central differences") {
  RandomProblem p({6, 6, 3, 2, 1, 1, true});
  const Plan plan = exact_plan(p.problem);
  const auto gradients =
      run_plan_backward_in_double(p.problem, plan, run_plan_in_double(p.problem, plan), p.dout.view());
  check_against_differences(p, plan, p.query, gradients.dquery);
  check_against_differences(p, plan, p.key, gradients.dkey);
  check_against_differences(p, plan, p.value, gradients.dvalue);
}

TEST_CASE("a plan with weights, exclusions, removed and synthetic keys, worked out by hand") {
  RandomProblem p({5, 5, 3, 2});
  const Plan plan = plan_with_everything(p.problem);
  REQUIRE(check_plan(p.problem, plan).empty());
  const DoubleResult result = run_plan_in_double(p.problem, plan);
  const auto weight = [&](int64_t i, int64_t j, double log_weight) {
    double dot = 0;
    for (int c = 0; c < 3; ++c)
      dot += static_cast<double>(p.problem.query.matrix(0).row(i)[c]) * p.problem.key.matrix(0).row(j)[c];
    return std::exp(p.problem.scale * dot + log_weight);
  };
  // Row 3 (position 0) sees ranks 0, 2 of (4, 1, 0, 3), rank 1 removed; and the third row of the second pass
  // is in no group. Row 0 and row 2 see rank 3 only, rank 2 being excluded. Row 4 sees nothing.
  const double w4 = weight(3, 4, 0.5);
  const double w0 = weight(3, 0, -1.0);
  CHECK(result.lse.data()[3] == Approx(std::log(w4 + w0)).epsilon(1e-6));
  for (int c = 0; c < 2; ++c) {
    const double v4 = p.value.data()[4 * 2 + c];
    const double v0 = p.value.data()[0 * 2 + c];
    CHECK(result.out.data()[3 * 2 + c] == Approx((w4 * v4 + w0 * v0) / (w4 + w0)).epsilon(1e-6));
  }
  CHECK(result.lse.data()[0] == Approx(std::log(weight(0, 3, 0))).epsilon(1e-6));
  CHECK(std::isinf(result.lse.data()[4]));
  CHECK(result.out.data()[4 * 2] == 0);
  // Row 1 is touched by the second pass only: three copies of the centroid.
  CHECK(result.out.data()[1 * 2] ==
        Approx((p.value.data()[2] + p.value.data()[4] + p.value.data()[8]) / 3).epsilon(1e-6));
}

TEST_CASE("value gradients of synthetic keys reach their members") {
  RandomProblem p({5, 5, 3, 2});
  const Plan plan = plan_with_everything(p.problem);
  const auto gradients =
      run_plan_backward_in_double(p.problem, plan, run_plan_in_double(p.problem, plan), p.dout.view());
  // ⟨out, dout⟩ is linear in V once the centroids follow their members.
  const double step = 0x1p-9;
  for (int64_t i = 0; i < p.value.shape().size(); ++i) {
    RandomProblem moved({5, 5, 3, 2});
    moved.value.data()[i] += static_cast<float>(step);
    const double slope = (objective(moved, plan_with_everything(moved.problem)) - objective(p, plan)) / step;
    INFO("entry " << i);
    CHECK(gradients.dvalue.data()[i] == Approx(slope).margin(5e-4));
  }
}

TEST_CASE("score caps, given denominators and lse only") {
  RandomProblem p({4, 6, 3, 2}, 3, 2.0);
  const Plan plan = exact_plan(p.problem);
  const float cap[] = {0.25F, -INFINITY, 100, -1};
  const double log_denominators[] = {0, 1, 2, 3};
  const RowSums denominators = sums_from_logs({1, 1, 4, 1}, log_denominators);
  int64_t capped = -1;
  EngineOptions options;
  options.score_cap = cap;
  options.denominators = &denominators;
  options.capped_entries = &capped;
  const DoubleResult result = run_plan_in_double(p.problem, plan, options);
  int64_t expected_capped = 0;
  for (int64_t i = 0; i < 4; ++i) {
    double sum = 0;
    double out = 0;
    for (int64_t j = 0; j < 6; ++j) {
      double s = 0;
      for (int c = 0; c < 3; ++c)
        s += static_cast<double>(p.query.data()[i * 3 + c]) * p.key.data()[j * 3 + c];
      s *= p.problem.scale;
      expected_capped += s > cap[i] ? 1 : 0;
      const double a = std::exp(std::min<double>(s, cap[i]));
      sum += a;
      out += a * std::exp(-log_denominators[i]) * p.value.data()[j * 2];
    }
    INFO("row " << i);
    if (i == 1) {
      CHECK(std::isinf(result.lse.data()[i]));
    } else {
      CHECK(result.lse.data()[i] == Approx(std::log(sum)));
    }
    CHECK(result.out.data()[i * 2] == Approx(out).margin(1e-14));
  }
  CHECK(capped == expected_capped);
  options.values = false;
  CHECK(run_plan_in_double(p.problem, plan, options).out.shape().size() == 0);
}

TEST_CASE("the reference backend rounds the double result") {
  RandomProblem p({9, 9, 4, 3, 2, 1, true});
  const Backend* backend = find_backend("reference");
  REQUIRE(backend != nullptr);
  const ForwardState state = backend->forward(p.problem, {});
  const DoubleResult exact = attention_in_double(p.problem);
  CHECK(largest_difference(state.result.out, exact.out) < 1e-6);
  CHECK(largest_difference(state.result.lse, exact.lse) < 1e-6);
  CHECK(state.result.diagnostics.entries == 2 * 45);
  const auto gradients = backend->backward(p.problem, {}, state, p.dout.view());
  const auto expected = attention_gradients_in_double(p.problem, exact, p.dout.view());
  CHECK(largest_difference(gradients.dkey, expected.dkey) < 1e-6);
}

}  // namespace
}  // namespace hyperattn::testing
