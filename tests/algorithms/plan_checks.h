// Ways to call backends and to look into plans that several tests share.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/backend.h"
#include "core/eigen.h"
#include "core/parallel.h"
#include "random_problem.h"

namespace hyperattn::testing {

using Settings = std::vector<std::pair<std::string, ParameterValue>>;

inline const Backend& backend_named(const std::string& name) {
  const Backend* backend = find_backend(name);
  if (backend == nullptr) throw std::logic_error("no backend " + name);
  return *backend;
}

/// The backend's defaults with some values changed; unknown names are a mistake of the test.
inline CallContext context_for(const std::string& backend, const Settings& settings, uint64_t seed = 1) {
  CallContext context;
  context.seed = seed;
  context.parameters = default_parameters(backend_named(backend).parameters());
  for (const auto& [name, value] : settings) {
    bool known = false;
    for (const ParameterSpec& spec : backend_named(backend).parameters())
      if (spec.name == name) {
        known = true;
        if (const std::string wrong = check_parameter(spec, value); !wrong.empty())
          throw std::logic_error(name + " " + wrong);
      }
    if (!known) throw std::logic_error("no parameter " + name + " in " + backend);
    context.parameters.set(name, value);
  }
  return context;
}

inline ForwardState run_backend(const std::string& backend, const AttentionProblem& problem,
                                const Settings& settings = {}, uint64_t seed = 1) {
  return backend_named(backend).forward(problem, context_for(backend, settings, seed));
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
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes) {
      if (pass.head != head) continue;
      for (const QueryGroup& group : pass.groups)
        for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
          const Visit& visit = pass.visits[static_cast<size_t>(v)];
          const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
          const std::set<int32_t> excluded(pass.excluded.begin() + visit.excluded_begin,
                                           pass.excluded.begin() + visit.excluded_end);
          for (int64_t p = group.begin; p < group.end; ++p)
            for (int64_t r = visit.begin; r < visit.end; ++r) {
              if ((pass.triangular && r > p) || excluded.count(static_cast<int32_t>(r)) != 0) continue;
              const float log_weight =
                  list.log_weight ? (*list.log_weight)[static_cast<size_t>(r)] : list.uniform_log_weight;
              weights(pass.queries[p], list.order[r]) += std::exp(static_cast<double>(log_weight));
            }
        }
    }
  return weights;
}

}  // namespace hyperattn::testing
