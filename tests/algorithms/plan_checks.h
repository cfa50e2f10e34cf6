// Ways to plan, to call backends and to look into plans that several tests share.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/attention.h"
#include "algorithms/methods/sparse.h"
#include "algorithms/plan_walk.h"
#include "algorithms/registry.h"
#include "core/eigen.h"
#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {

/// Of settings that are given twice the last counts.
using Settings = std::vector<std::pair<std::string, ParameterValue>>;

inline const Backend& backend_named(const std::string& name) {
  const Backend* backend = find_backend(name);
  if (backend == nullptr) throw std::logic_error("no backend " + name);
  return *backend;
}

/// The backend's defaults with some values changed; unknown names and wrong values are a mistake of the test.
inline Call call_for(const std::string& backend, const Settings& settings, uint64_t seed = 1) {
  hyperattn::Settings last;
  for (const auto& [name, value] : settings) last[name] = value;
  Call call;
  call.seed = seed;
  call.parameters = resolve_settings(backend, backend_named(backend).parameters(), last);
  return call;
}

inline ForwardState run_backend(const std::string& backend, const AttentionProblem& problem,
                                const Settings& settings = {}, uint64_t seed = 1) {
  return backend_named(backend).forward(problem, call_for(backend, settings, seed));
}

/// The problem on the default engine.
inline std::unique_ptr<BoundProblem> bound_of(const AttentionProblem& problem) {
  return default_engine().bind(problem, {});
}

/// What a backend plans and does not run.
inline PlannedCall planned(const std::string& backend, const AttentionProblem& problem,
                           const Settings& settings = {}, uint64_t seed = 1) {
  return backend_named(backend).method().plan(*bound_of(problem), call_for(backend, settings, seed));
}

/// The masks of a call of `lsh` or `hyper`.
inline std::shared_ptr<const NodeMasks> node_masks(const AttentionProblem& problem, const Call& call) {
  return plan_node_masks(*bound_of(problem), call, nullptr);
}

/// The last `rows` rows of every head.
inline Tensor<float> last_rows(const Tensor<float>& tensor, int64_t rows) {
  TensorShape shape = tensor.shape();
  shape.rows = rows;
  Tensor<float> last(shape);
  for (int64_t head = 0; head < shape.matrices(); ++head)
    std::copy_n(tensor.matrix(head).row(tensor.shape().rows - rows), rows * shape.dim,
                last.matrix(head).data);
  return last;
}

/// Checks that a call gave what its plan does in double precision and, where the method has a gradient, that
/// its gradient is the plan's.
inline void check_run_of_plan(const std::string& backend, const RandomProblem& p, const Settings& settings,
                              const ForwardState& state, double tolerance, double gradient_tolerance) {
  const DoubleResult expected = run_plan_in_double(p.problem, *state.planned.plan);
  CHECK(largest_difference(state.result.out, expected.out) < tolerance);
  CHECK(largest_difference(state.result.lse, expected.lse) < tolerance);
  const Call call = call_for(backend, settings);
  if (!backend_named(backend).no_gradient(call.parameters).empty()) return;
  const AttentionGradients seen = backend_named(backend).backward(p.problem, call, state, p.dout.view());
  const DoubleGradients wanted =
      run_plan_backward_in_double(p.problem, *state.planned.plan, expected, p.dout.view());
  const auto check = [&](const char* name, const Tensor<float>& gradient, const Tensor<double>& exact) {
    INFO("gradient of " << name);
    CHECK(largest_difference(gradient, exact) < gradient_tolerance * (1 + largest_entry(exact)));
  };
  check("queries", seen.dquery, wanted.dquery);
  check("keys", seen.dkey, wanted.dkey);
  check("values", seen.dvalue, wanted.dvalue);
}

inline Plan plan_of(Pass pass) {
  return PlanBuilder().add(std::move(pass)).take();
}

/// Checks that the backend gives the same bits with 1, 2, 3 and 8 threads.
inline void check_bits_for_any_threads(const std::string& backend, const AttentionProblem& problem,
                                       const Settings& settings) {
  const int before = thread_count();
  set_thread_count(1);
  const ForwardState one = run_backend(backend, problem, settings);
  for (const int threads : {2, 3, 8}) {
    set_thread_count(threads);
    const ForwardState seen = run_backend(backend, problem, settings);
    CAPTURE(threads);
    CHECK(largest_difference(one.result.out, seen.result.out) == 0);
    CHECK(largest_difference(one.result.lse, seen.result.lse) == 0);
  }
  set_thread_count(before);
}

/// One head's plan as a dense matrix of weights (n_q × n_k, sums of repeated entries); synthetic keys are not
/// expected.
inline RowMajorMatrix<double> dense_weights(const Plan& plan, int64_t head, int64_t queries, int64_t keys) {
  RowMajorMatrix<double> weights = RowMajorMatrix<double>::Zero(queries, keys);
  for_each_entry(plan, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
    if (pass.head == head)
      weights(pass.queries[entry.position], entry.key_row()) += std::exp(entry.log_weight());
  });
  return weights;
}

/// Checks that other rows from the 400th of 620 on leave the rows before them as they are, in causal `hyper`.
inline void check_earlier_rows_keep_their_bits(const Settings& settings) {
  const int64_t n = 620;
  const int64_t kept = 400;
  RandomProblem p({n, n, 8, 6, 1, 2, true}, 5);
  const ForwardState before = run_backend("hyper", p.problem, settings);
  const RandomProblem other({n, n, 8, 6, 1, 2, true}, 6);
  take_later_rows(p, other, kept);
  const ForwardState after = run_backend("hyper", p.problem, settings);
  CHECK(differing_rows(before.result.out, after.result.out, kept) == 0);
}

/// Checks that a call gives the same bits on 2, 3 and 8 threads as on one, and that `figure` of its
/// diagnostics is the same; returns the call on one.
template <class Figure>
ForwardState check_any_number_of_threads(const std::string& backend, const AttentionProblem& problem,
                                         const Settings& settings, const Figure& figure) {
  const int before = thread_count();
  set_thread_count(1);
  ForwardState one = run_backend(backend, problem, settings);
  for (const int threads : {2, 3, 8}) {
    set_thread_count(threads);
    const ForwardState many = run_backend(backend, problem, settings);
    INFO(threads << " threads");
    CHECK(largest_difference(one.result.out, many.result.out) == 0);
    CHECK(largest_difference(one.result.lse, many.result.lse) == 0);
    CHECK(figure(one.result.diagnostics) == figure(many.result.diagnostics));
  }
  set_thread_count(before);
  return one;
}

}  // namespace hyperattn::testing
