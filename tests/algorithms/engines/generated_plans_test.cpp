// Every engine that runs any plan, on generated plans that use every feature, against the reference in
// double.
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "algorithms/check_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/plan_walk.h"
#include "algorithms/registry.h"
#include "core/parallel.h"
#include "tests/algorithms/random_plans.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

constexpr double kEpsilon = 1.2e-7;  // of fp32
constexpr int kPlansOfEach = 12;

struct Size {
  int64_t queries, keys, head_dim, value_dim, heads, key_heads;
};

std::string to_string(const Size& s) {
  return "n_q " + std::to_string(s.queries) + ", n_k " + std::to_string(s.keys) + ", d " +
         std::to_string(s.head_dim) + ", d_v " + std::to_string(s.value_dim) + ", heads " +
         std::to_string(s.heads) + " of " + std::to_string(s.key_heads);
}

const Size kSizes[] = {{1, 1, 1, 1, 1, 1},       {23, 24, 16, 16, 2, 1},   {61, 257, 15, 20, 1, 1},
                       {131, 129, 33, 17, 3, 3}, {300, 140, 64, 64, 4, 2}, {40, 509, 128, 96, 1, 1},
                       {70, 70, 256, 256, 1, 1}};

struct SizedProblem {
  Tensor<float> query, key, value, dout;
  AttentionProblem problem;

  explicit SizedProblem(const Size& s)
      : query(gaussian({1, s.heads, s.queries, s.head_dim}, 3, Purpose::query)),
        key(gaussian({1, s.key_heads, s.keys, s.head_dim}, 3, Purpose::key)),
        value(gaussian({1, s.key_heads, s.keys, s.value_dim}, 3, Purpose::value)),
        dout(gaussian({1, s.heads, s.queries, s.value_dim}, 3, Purpose::output_gradient)),
        problem{query.view(), key.view(), value.view(), default_scale(s.head_dim), false} {}
};

/// Engines that are tested against the reference.
std::vector<const Engine*> engines_of_plans() {
  std::vector<const Engine*> engines;
  for (const Engine* engine : all_engines())
    if (engine->only_exact().empty() && engine->available().empty()) engines.push_back(engine);
  return engines;
}

/// The engine's defaults, in single precision where it can be chosen.
Parameters in_single_precision(const Engine& engine) {
  Parameters parameters = default_parameters(engine.parameters());
  if (parameters.has("precision")) parameters.set("precision", std::string("fp32"));
  return parameters;
}

/// How much a row's errors grow by cancellation: Σ|D|e/den.
double amplification(const DoubleResult& exact, int64_t row) {
  const double denominator = exact.denominator.data()[row];
  return denominator > 0 ? exact.absolute.data()[row] / denominator : 1;
}

/// A score is a sum of d products, a weight inherits its error as a relative one, and a sum of many weights
/// adds the square root of their number; 60 covers the worst of many rows, and values linear in the query of
/// up to some units.
double tolerance(const Size& s) {
  return 60 * kEpsilon * (std::sqrt(static_cast<double>(s.head_dim)) + 6);
}

/// Rows whose denominator is mostly cancelled: their digits are noise, and near the guard engines may differ.
bool is_noise(const DoubleResult& exact, int64_t row) {
  return exact.absolute.data()[row] > 0 && exact.denominator.data()[row] < 1e-2 * exact.absolute.data()[row];
}

void compare_forward(const Size& s, const AttentionResult& seen, const DoubleResult& exact) {
  double worst = 0;
  double worst_lse = 0;
  for (int64_t row = 0; row < exact.lse.shape().size(); ++row) {
    if (is_noise(exact, row)) continue;
    const double factor = amplification(exact, row);
    for (int64_t c = 0; c < s.value_dim; ++c) {
      const int64_t i = row * s.value_dim + c;
      worst = std::max(worst, std::abs(seen.out.data()[i] - exact.out.data()[i]) / factor /
                                  (1 + std::abs(exact.out.data()[i])));
    }
    const double lse = exact.lse.data()[row];
    const double difference = std::abs(seen.lse.data()[row] - lse);
    worst_lse = std::max(worst_lse, std::isinf(lse) ? (seen.lse.data()[row] == lse ? 0 : 1e9)
                                                    : difference / factor / (1 + std::abs(lse)));
  }
  INFO("out differs by " << worst << ", lse by " << worst_lse << ", allowed " << tolerance(s));
  CHECK(worst < tolerance(s));
  CHECK(worst_lse < tolerance(s));
}

template <class T>
void compare_gradient(const char* which, const Size& s, const Tensor<float>& seen, const Tensor<T>& exact,
                      double scale) {
  const double difference = largest_difference(seen, exact);
  INFO(which << " differs by " << difference << " where terms are up to " << scale);
  CHECK(difference < 4 * tolerance(s) * scale);
}

/// The upstream gradient without the rows that are noise.
Tensor<float> clear_dout(const SizedProblem& p, const DoubleResult& exact, double* largest_factor) {
  Tensor<float> dout(p.dout.shape());
  for (int64_t i = 0; i < dout.shape().size(); ++i) {
    const int64_t row = i / dout.shape().dim;
    const bool noise = is_noise(exact, row) || amplification(exact, row) > 20;
    dout.data()[i] = noise ? 0.0F : p.dout.data()[i];
    if (!noise) *largest_factor = std::max(*largest_factor, amplification(exact, row));
  }
  return dout;
}

TEST_CASE(
    "generated plans are valid, use every feature, and run alike on every engine, forward and backward") {
  std::set<std::string> used;
  for (const PlanFamily& family : plan_families())
    for (const Size& size : kSizes) {
      const SizedProblem p(size);
      for (uint64_t seed = 0; seed < kPlansOfEach; ++seed) {
        const Plan plan = RandomPlan(p.problem, family, seed).make();
        INFO(family.name << ", " << to_string(size) << ", plan " << seed);
        REQUIRE(check_plan(p.problem, plan) == "");
        const DoubleResult exact = run_plan_in_double(p.problem, plan);
        double factor = 1;
        const Tensor<float> dout = clear_dout(p, exact, &factor);
        for (const Engine* engine : engines_of_plans()) {
          INFO("engine " << engine->name());
          const auto bound = engine->bind(p.problem, in_single_precision(*engine));
          const AttentionResult seen = engine->forward(*bound, plan, {});
          compare_forward(size, seen, exact);
          if (has_query_terms(plan)) continue;
          const AttentionGradients gradients = engine->backward(*bound, plan, seen, dout.view());
          const DoubleGradients expected = run_plan_backward_in_double(p.problem, plan, exact, dout.view());
          const double scale = factor * factor *
                               (1 + largest_entry(expected.dquery) + largest_entry(expected.dkey) +
                                largest_entry(expected.dvalue));
          compare_gradient("dq", size, gradients.dquery, expected.dquery, scale);
          compare_gradient("dk", size, gradients.dkey, expected.dkey, scale);
          compare_gradient("dv", size, gradients.dvalue, expected.dvalue, scale);
        }
        for_each_group(plan, [&](const Pass& pass, const QueryGroup& group) {
          if (group.moment_keys > 0) used.insert("moments");
          if (pass.triangular) used.insert(pass.window > 0 ? "window" : "diagonal");
          if (group.first_row_visit < group.last_row_visit) used.insert("row visits");
          for (const KeyList& list : pass.lists) {
            if (list.synthetic) used.insert("synthetic keys");
            if (list.signed_weights) used.insert("signed weights");
            if (list.has_factor()) used.insert("factor");
            if (list.linear_value) used.insert("linear values");
          }
        });
        if (plan.clip_to_values) used.insert("clip");
      }
    }
  CHECK(used == std::set<std::string>{"moments", "window", "diagonal", "row visits", "synthetic keys",
                                      "signed weights", "factor", "linear values", "clip"});
}

TEST_CASE("generated plans give the same bits for any number of threads on every engine") {
  const Size size = kSizes[4];
  const SizedProblem p(size);
  const int before = thread_count();
  for (const PlanFamily& family : plan_families())
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const Plan plan = RandomPlan(p.problem, family, seed).make();
      for (const Engine* engine : engines_of_plans()) {
        const auto bound = engine->bind(p.problem, in_single_precision(*engine));
        set_thread_count(1);
        const AttentionResult one = engine->forward(*bound, plan, {});
        for (const int threads : {2, 5}) {
          set_thread_count(threads);
          const AttentionResult many = engine->forward(*bound, plan, {});
          INFO(family.name << ", plan " << seed << ", engine " << engine->name() << ", " << threads
                           << " threads");
          CHECK(largest_difference(one.out, many.out) == 0);
          CHECK(largest_difference(one.lse, many.lse) == 0);
          if (has_query_terms(plan)) continue;
          set_thread_count(1);
          const AttentionGradients a = engine->backward(*bound, plan, one, p.dout.view());
          set_thread_count(threads);
          const AttentionGradients b = engine->backward(*bound, plan, many, p.dout.view());
          CHECK(largest_difference(a.dquery, b.dquery) == 0);
          CHECK(largest_difference(a.dkey, b.dkey) == 0);
          CHECK(largest_difference(a.dvalue, b.dvalue) == 0);
        }
      }
    }
  set_thread_count(before);
}

}  // namespace
}  // namespace hyperattn::testing
