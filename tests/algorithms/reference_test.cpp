#include "algorithms/engines/reference/reference.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "algorithms/engines/reference/reference_plan.h"
#include "random_problem.h"

namespace hyperattn::testing {
namespace {

const ProblemSize kSizes[] = {
    {1, 1, 1, 1},  {7, 7, 3, 3, 2, 2},         {5, 11, 4, 2},
    {11, 5, 2, 7}, {13, 13, 5, 3, 1, 2, true}, {1, 1, 2, 2, 1, 1, true},
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

TEST_CASE("the plan interpreter on the exact plan is exact attention") {
  for (const ProblemSize& size : kSizes) {
    INFO(to_string(size));
    RandomProblem p(size);
    const DoubleResult exact = attention_in_double(p.problem);
    const Plan plan = exact_test_plan(p.problem);
    const DoubleResult planned = run_plan_in_double(p.problem, plan);
    CHECK(largest_difference(exact.out, planned.out) < 1e-13);
    CHECK(largest_difference(exact.lse, planned.lse) < 1e-13);
    const auto a = attention_gradients_in_double(p.problem, exact, p.dout.view());
    const auto b = run_plan_backward_in_double(p.problem, plan, planned, p.dout.view());
    CHECK(largest_difference(a.dquery, b.dquery) < 1e-12);
    CHECK(largest_difference(a.dkey, b.dkey) < 1e-12);
    CHECK(largest_difference(a.dvalue, b.dvalue) < 1e-12);
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
  first.lists.push_back({RowOrder::list({4, 1, 0, 3}), 0, nullptr, nullptr, Stage::block});
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
  second.lists.push_back({RowOrder::run(0, 1), std::log(3.0F), nullptr, centroids, Stage::sample});
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
  const Plan plan = exact_test_plan(p.problem);
  const auto gradients =
      run_plan_backward_in_double(p.problem, plan, run_plan_in_double(p.problem, plan), p.dout.view());
  check_against_differences(p, plan, p.query, gradients.dquery);
  check_against_differences(p, plan, p.key, gradients.dkey);
  check_against_differences(p, plan, p.value, gradients.dvalue);
}

TEST_CASE("a plan with weights, exclusions, removed and synthetic keys, worked out by hand") {
  RandomProblem p({5, 5, 3, 2});
  const DoubleResult result = run_plan_in_double(p.problem, plan_with_everything(p.problem));
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

TEST_CASE("score caps, given normalisers and lse only") {
  RandomProblem p({4, 6, 3, 2}, 3, 2.0);
  const Plan plan = exact_test_plan(p.problem);
  const float cap[] = {0.25F, -INFINITY, 100, -1};
  const float normaliser[] = {0, 1, 2, 3};
  int64_t capped = -1;
  EngineOptions options;
  options.score_cap = cap;
  options.row_normaliser = normaliser;
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
      out += a * std::exp(-normaliser[i]) * p.value.data()[j * 2];
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
