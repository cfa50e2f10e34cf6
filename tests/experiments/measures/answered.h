// What the tests of measures start from: a problem that a backend has answered.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "algorithms/attention.h"
#include "algorithms/registry.h"
#include "experiments/measures/context.h"
#include "experiments/measures/measures.h"
#include "tests/experiments/measures/dense.h"

namespace hyperattn::testing {

/// A Gaussian problem with one backend's answer to it, as the runner hands it to the measures.
struct Answered {
  MeasuredProblem input;
  const Backend& backend;
  Call call;
  ForwardState forward;
  ExactQuantities exact;
  MeasureContext context;

  Answered(const MeasuredSize& size, const std::string& name, const Settings& settings)
      : input(size),
        backend(*find_backend(name)),
        call(call_of(backend, settings)),
        forward(backend.forward(input.problem, call)),
        exact(input.problem, default_engine(), 1, 0),
        context(backend, call, forward, exact) {}

  static Call call_of(const Backend& backend, const Settings& settings) {
    Call call;
    call.seed = 5;
    call.parameters = resolve_settings(backend.name(), backend.parameters(), settings);
    return call;
  }
  std::vector<FigureRow> rows(const Measure& measure, const Settings& settings = {}) {
    Parameters parameters = default_parameters(measure.parameters());
    for (const auto& [name, value] : settings) parameters.set(name, value);
    return measure.compute(context, parameters);
  }
  double figure(const Measure& measure, const std::string& name) { return rows(measure)[0].figures.at(name); }
};

/// Sizes that approximate something in a problem of a hundred rows.
inline const Settings kSmall = {{"block_size", int64_t{16}},
                                {"bucket_count", int64_t{8}},
                                {"min_seq_len", int64_t{20}},
                                {"sample_size", int64_t{12}}};

inline Settings with(Settings settings, const std::string& name, ParameterValue value) {
  settings[name] = std::move(value);
  return settings;
}

}  // namespace hyperattn::testing
