#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "core/parallel.h"
#include "tests/algorithms/engines/cpu/engine_cases.h"

namespace hyperattn {
namespace {

using namespace testing;

/// Largest difference over the largest entry of the reference.
double relative_difference(const Tensor<float>& seen, const Tensor<double>& expected) {
  double worst = 0;
  double largest = 1e-3;  // an all-zero gradient (one key) is compared absolutely
  for (int64_t i = 0; i < seen.shape().size(); ++i) {
    const double difference = std::abs(seen.data()[i] - expected.data()[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    largest = std::max(largest, std::abs(expected.data()[i]));
  }
  return worst / largest;
}

/// Weights carry the relative error of the scores (see the forward test), sums over up to 600 rows a few ε
/// more.
double tolerance(const EngineCase& c) {
  return 60 * 1.2e-7 * (std::sqrt(static_cast<double>(c.dim)) + 8);
}

void check_gradients(const EngineCase& c, const OwnedProblem& owned, const Plan& plan,
                     const std::string& what) {
  const DoubleResult forward_in_double = run_plan_in_double(owned.problem, plan);
  const DoubleGradients expected =
      run_plan_backward_in_double(owned.problem, plan, forward_in_double, owned.dout.view());
  for (const std::string& level : usable_instruction_sets()) {
    force_instruction_set(level);
    const AttentionResult forward = run_forward(owned.problem, plan);
    const AttentionGradients seen = run_backward(owned.problem, plan, forward, owned.dout.view());
    const double dq = relative_difference(seen.dquery, expected.dquery);
    const double dk = relative_difference(seen.dkey, expected.dkey);
    const double dv = relative_difference(seen.dvalue, expected.dvalue);
    INFO(what << " at " << to_string(c) << " with " << level << ": dq " << dq << ", dk " << dk << ", dv "
              << dv << ", allowed " << tolerance(c));
    CHECK(dq <= tolerance(c));
    CHECK(dk <= tolerance(c));
    CHECK(dv <= tolerance(c));
  }
  force_instruction_set("");
}

TEST_CASE("engine backward: every plan feature agrees with the reference at awkward sizes") {
  for (const EngineCase& c : awkward_cases()) {
    const OwnedProblem owned(c);
    check_gradients(c, owned, exact_plan(owned.problem), "exact");
    check_gradients(c, owned, blocks_and_sample_plan(c, owned, 13, false), "blocks of 13 and sample");
    check_gradients(c, owned, blocks_and_sample_plan(c, owned, 140, true),
                    "blocks of 140, one row in no group");
    check_gradients(c, owned, two_phase_plan(c, owned, 29), "two phases with synthetic keys");
    EngineCase square = c;
    square.queries = c.keys;
    square.causal = true;
    const OwnedProblem owned_square(square);
    check_gradients(square, owned_square, exact_plan(owned_square.problem), "triangular");
  }
}

TEST_CASE("engine backward: many chunks, short lists with replicas, and a list longer than K") {
  const EngineCase c{1, 2, 1100, 400, 24, 40};
  const OwnedProblem owned(c);
  check_gradients(c, owned, exact_plan(owned.problem), "many chunks");
  check_gradients(c, owned, blocks_and_sample_plan(c, owned, 64, true), "blocks and a short list");
  const EngineCase small{1, 1, 90, 60, 16, 16};
  const OwnedProblem owned_small(small);
  std::vector<int32_t> keys;  // each query has its own five keys of one long list, with repeats
  for (int64_t i = 0; i < small.queries; ++i)
    for (int64_t j = 0; j < 5; ++j) keys.push_back(static_cast<int32_t>((7 * i + 11 * j) % small.keys));
  PassBuilder rows(owned_small.problem, 0, 0, RowOrder::run(0, small.queries));
  const int32_t list = rows.add_keys(RowOrder::list(std::move(keys)), Stage::exact);
  for (int64_t i = 0; i < small.queries; ++i) rows.group(i, i + 1).visit(list, 5 * i, 5 * i + 5);
  check_gradients(small, owned_small, PlanBuilder().add(rows.take()).take(), "a key list per row");
}

TEST_CASE("engine backward: bits do not depend on the number of threads") {
  const EngineCase c{1, 1, 1500, 1300, 20, 24};
  const OwnedProblem owned(c);
  const int before = thread_count();
  for (const Plan& plan : {exact_plan(owned.problem), blocks_and_sample_plan(c, owned, 100, true)}) {
    const AttentionResult forward = run_forward(owned.problem, plan);
    set_thread_count(1);
    const AttentionGradients one = run_backward(owned.problem, plan, forward, owned.dout.view());
    for (int threads : {2, 3, 8, 16}) {
      set_thread_count(threads);
      const AttentionGradients many = run_backward(owned.problem, plan, forward, owned.dout.view());
      INFO(threads << " threads");
      const auto same = [](const Tensor<float>& a, const Tensor<float>& b) {
        return std::memcmp(a.data(), b.data(), static_cast<size_t>(a.shape().size()) * sizeof(float)) == 0;
      };
      CHECK(same(one.dquery, many.dquery));
      CHECK(same(one.dkey, many.dkey));
      CHECK(same(one.dvalue, many.dvalue));
    }
  }
  set_thread_count(before);
}

TEST_CASE("engine backward: a softmax does not feel a shift of all scores, so Σ_j dk·q-type sums vanish") {
  // ⟨dq_i, q_i⟩ summed equals ⟨dk_j, k_j⟩ summed: both are Σ s·dS.
  const EngineCase c{1, 1, 333, 257, 32, 32};
  const OwnedProblem owned(c);
  const Plan plan = blocks_and_sample_plan(c, owned, 40, false);
  const AttentionResult forward = run_forward(owned.problem, plan);
  const AttentionGradients g = run_backward(owned.problem, plan, forward, owned.dout.view());
  double by_query = 0;
  double by_key = 0;
  double size = 0;
  for (int64_t i = 0; i < 333 * 32; ++i) {
    by_query += static_cast<double>(g.dquery.data()[i]) * owned.query.data()[i];
    size += std::abs(static_cast<double>(g.dquery.data()[i]) * owned.query.data()[i]);
  }
  for (int64_t i = 0; i < 257 * 32; ++i)
    by_key += static_cast<double>(g.dkey.data()[i]) * owned.key.data()[i];
  INFO(by_query << " by queries, " << by_key << " by keys, of " << size);
  CHECK(std::abs(by_query - by_key) < 1e-5 * size);
}

TEST_CASE("engine backward: a dout of another shape is refused with both shapes") {
  const EngineCase c{1, 1, 4, 4, 4, 4};
  const OwnedProblem owned(c);
  const Plan plan = exact_plan(owned.problem);
  const AttentionResult forward = run_forward(owned.problem, plan);
  CHECK_THROWS_WITH(run_backward(owned.problem, plan, forward,
                                 owned.query.view().shape.rows == 4
                                     ? TensorView<const float>{owned.dout.data(), {1, 1, 2, 8}}
                                     : owned.dout.view()),
                    Catch::Contains("(1, 1, 4, 4)") && Catch::Contains("(1, 1, 2, 8)"));
}

}  // namespace
}  // namespace hyperattn
