#include "experiments/running/estimates.h"

#include <algorithm>
#include <limits>

#include "algorithms/backend.h"
#include "algorithms/kernels/instruction_set.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

constexpr double kBackwardFactor = 14.0 / 4.0;
constexpr int64_t kSmallRows = 1024;
constexpr int kSmallCalls = 5;  // the fastest counts: on a busy machine single calls can be ten times slower

double tensor_bytes(const TensorShape& shape) {
  return static_cast<double>(shape.size()) * sizeof(float);
}

/// Seconds of one call on at most kSmallRows Gaussian rows, or 0 where the backend refuses it.
double time_small_call(const InputPoint& point, const Case& grid_case, double& flops) {
  InputShapes shapes = *point.shapes;
  for (TensorShape* shape : {&shapes.query, &shapes.key, &shapes.value}) {
    shape->batch = shape->heads = 1;
    shape->rows = std::min(shape->rows, kSmallRows);
  }
  const Backend& backend = *grid_case.backend;
  Call context;
  context.parameters = grid_case.parameters;
  if (backend.method().wants_callers_mask(context.parameters)) return 0;
  const AttentionInputs inputs = normal_inputs(shapes, {});
  const AttentionProblem problem{inputs.query.view(), inputs.key.view(), inputs.value.view(),
                                 default_scale(shapes.query.dim), point.causal};
  if (!backend.check(problem, context.parameters).empty()) return 0;
  double seconds = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= kSmallCalls; ++i) {
    const Stopwatch watch;
    const ForwardState state = backend.forward(problem, context);
    if (i > 0) seconds = std::min(seconds, watch.seconds());
    flops = counted_flops(static_cast<double>(state.result.diagnostics.entries), shapes, PassKind::forward);
  }
  return seconds;
}

}  // namespace

double counted_flops(double entries, const InputShapes& shapes, PassKind pass) {
  const double forward = 2.0 * static_cast<double>(shapes.query.dim + shapes.value.dim) * entries;
  return pass == PassKind::forward ? forward : kBackwardFactor * forward;
}

double input_bytes(const InputShapes& shapes) {
  return tensor_bytes(shapes.query) + tensor_bytes(shapes.key) + tensor_bytes(shapes.value);
}

CaseEstimate estimate_case(const InputPoint& point, const Case& grid_case, bool measures) {
  const InputShapes& shapes = *point.shapes;
  const Backend& backend = *grid_case.backend;
  const AttentionProblem problem = problem_of(point);
  TensorShape out = shapes.query;
  out.dim = shapes.value.dim + 1;  // with the log-sum-exp
  CaseEstimate estimate;
  estimate.flops =
      counted_flops(backend.estimated_entries(problem, grid_case.parameters), shapes, grid_case.pass);
  const double tensors = input_bytes(shapes) + tensor_bytes(out);
  estimate.bytes = tensors + backend.estimated_bytes(problem, grid_case.parameters);
  if (grid_case.pass == PassKind::forward_backward) estimate.bytes += tensors;
  if (measures) estimate.bytes += 4 * tensor_bytes(out);  // the exact output, and one in double
  return estimate;
}

double BackendSpeeds::flops_per_second(const InputPoint& point, const Case& grid_case) {
  const auto known = by_backend_.find(grid_case.backend->name());
  if (known != by_backend_.end()) return known->second;
  double flops = 0;
  double seconds = 0;
  try {
    seconds = time_small_call(point, grid_case, flops);
  } catch (const Error&) {  // the case itself will tell
  }
  const double speed =
      seconds > 0 && flops > 0 ? flops / seconds : 0.5e9 * measure_fma_peak_gflops(thread_count());
  return by_backend_[grid_case.backend->name()] = speed;
}

}  // namespace hyperattn
