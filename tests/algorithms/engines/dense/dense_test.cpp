#include <catch2/catch.hpp>

#include "algorithms/backend.h"
#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

TEST_CASE("dense is exact attention in float") {
  const ProblemSize sizes[] = {{1, 1, 1, 1},
                               {31, 257, 7, 5, 2, 2},
                               {33, 32, 65, 64},
                               {300, 300, 16, 3, 1, 2, true},
                               {257, 1, 2, 256},
                               {31, 257, 7, 5, 2, 2, true},
                               {257, 31, 7, 5, 1, 1, true},
                               {65, 131, 16, 9, 2, 6, false, 2},
                               {65, 131, 16, 9, 1, 4, true, 1},
                               {131, 131, 8, 8, 1, 1, true, 0, 33}};
  const Backend* dense = find_backend("dense");
  REQUIRE(dense != nullptr);
  for (const ProblemSize& size : sizes) {
    INFO(to_string(size));
    RandomProblem p(size, 5, 2.0);
    const ForwardState state = dense->forward(p.problem, {});
    const DoubleResult exact = attention_in_double(p.problem);
    CHECK(largest_difference(state.result.out, exact.out) < 2e-6);
    CHECK(largest_difference(state.result.lse, exact.lse) < 2e-6);
    REQUIRE(state.planned.plan != nullptr);
    CHECK(is_exact_plan(p.problem, *state.planned.plan));
    CHECK(state.planned.masks == nullptr);
    CHECK(state.planned.denominators == nullptr);
  }
}

TEST_CASE("dense gives the same bits for any number of threads") {
  RandomProblem p({700, 700, 16, 16, 1, 2, true});
  const Backend* dense = find_backend("dense");
  const int before = thread_count();
  set_thread_count(1);
  const ForwardState one = dense->forward(p.problem, {});
  for (const int threads : {2, 3, 8}) {
    set_thread_count(threads);
    const ForwardState many = dense->forward(p.problem, {});
    INFO(threads << " threads");
    CHECK(largest_difference(one.result.out, many.result.out) == 0);
    CHECK(largest_difference(one.result.lse, many.result.lse) == 0);
  }
  set_thread_count(before);
}

TEST_CASE("dense has no backward pass and says so") {
  RandomProblem p({3, 3, 2, 2});
  const Backend* dense = find_backend("dense");
  CHECK_FALSE(dense->no_gradient({}).empty());
  CHECK_THROWS_WITH(dense->backward(p.problem, {}, {}, p.dout.view()), Catch::Contains("'dense'"));
}

}  // namespace
}  // namespace hyperattn::testing
