#include "algorithms/engines/cuda/device_attention.h"

#include <optional>
#include <string>
#include <utility>

#include "algorithms/engines/cuda/run.h"
#include "algorithms/registry.h"
#include "core/error.h"

namespace hyperattn {
namespace {

const Engine& cuda_engine() {
  return *find_engine("cuda");
}

AttentionProblem with_shapes(AttentionProblem problem, const DeviceInputs& inputs) {
  problem.query = {nullptr, inputs.query.shape};
  problem.key = {nullptr, inputs.key.shape};
  problem.value = {nullptr, inputs.value.shape};
  return problem;
}

/// Throws where the method cannot run on such tensors.
void require_fit(const Attention& attention, const AttentionProblem& shapes) {
  const Backend& backend = attention.backend();
  if (&backend.engine() != &cuda_engine())
    fail_usage("tensors on a GPU need engine 'cuda', but the engine is '" + backend.engine().name() + "'");
  check_problem(shapes);
  const Parameters& parameters = attention.parameters();
  if (const std::string wrong = backend.check(shapes, parameters); !wrong.empty())
    fail_usage("method '" + backend.name() + "': " + wrong);
  if (const std::string missing = backend.engine().available(); !missing.empty())
    fail_environment("engine 'cuda' " + missing);
}

}  // namespace

struct DeviceAttention::State {
  Attention attention;
  std::unique_ptr<BoundProblem> bound;
  PlannedCall planned;
  bool is_planned_ahead = false;
  cuda::DeviceForward result;
  bool is_waited_for = false;
  std::optional<Diagnostics> diagnostics;

  void plan(const DeviceTensor& out, const DeviceTensor& lse);
};

DeviceAttention::DeviceAttention(const Attention& attention, const AttentionProblem& problem,
                                 const DeviceInputs& inputs)
    : state_(std::make_unique<State>(State{attention, nullptr, {}, false, {}, false, {}})) {
  const AttentionProblem shapes = with_shapes(problem, inputs);
  require_fit(attention, shapes);
  state_->bound =
      cuda::bind_device_tensors(shapes, inputs, cuda_engine(), cuda::precision_of(attention.parameters()));
}

DeviceAttention::~DeviceAttention() = default;

void DeviceAttention::State::plan(const DeviceTensor& out, const DeviceTensor& lse) {
  result = {};  // of the call before
  is_waited_for = false;
  diagnostics.reset();
  cuda::expect_forward(*bound, out, lse);
  planned = attention.backend().method().plan(*bound, attention.call());
  if (planned.denominators)
    fail_usage("estimator: theory computes denominators on the host and is not for tensors on a GPU");
}

void DeviceAttention::plan_ahead() {
  State& own = *state_;
  if (own.bound->shapes().causal) return;
  own.is_planned_ahead = false;
  own.plan({}, {});
  own.is_planned_ahead = true;
}

void DeviceAttention::begin_forward(const DeviceTensor& out, const DeviceTensor& lse, bool backward_follows) {
  State& own = *state_;
  if (!std::exchange(own.is_planned_ahead, false)) own.plan(out, lse);
  own.result = cuda::forward_to_device(*own.bound, *own.planned.plan, out, lse, backward_follows);
  own.planned.masks = nullptr;  // which only measures read
  if (!backward_follows) own.planned.plan = nullptr;
}

void DeviceAttention::end_forward() {
  State& own = *state_;
  if (own.result.call == nullptr || own.is_waited_for) return;
  const int64_t rows = cuda::wait_for(*own.bound, own.result);
  own.is_waited_for = true;
  if (rows > 0)
    fail_input("the result holds a NaN or infinity in " + std::to_string(rows) +
               " rows: q, k or v hold one, or scores beyond the range of the precision");
}

void DeviceAttention::backward(const DeviceTensor& out, const DeviceTensor& dout,
                               const DeviceGradients& gradients) const {
  const Attention& attention = state_->attention;
  if (const std::string none = attention.backend().no_gradient(attention.parameters()); !none.empty())
    fail_usage("method '" + attention.backend().name() + "' " + none);
  if (state_->planned.plan == nullptr || state_->result.sums == nullptr)
    fail_usage("a gradient needs a forward call before it which was told that one follows");
  cuda::backward_to_device(*state_->bound, *state_->planned.plan, state_->result, out, dout, gradients);
}

const Diagnostics& DeviceAttention::diagnostics() const {
  State& own = *state_;
  if (own.diagnostics) return *own.diagnostics;
  if (!own.is_waited_for) fail_usage("there are no diagnostics of a call that has not ended");
  own.diagnostics = cuda::diagnostics_of(*own.bound, own.result);
  own.planned.notes.collisions += own.diagnostics->collisions;
  own.diagnostics->add_planning(own.planned.notes);
  return *own.diagnostics;
}

}  // namespace hyperattn
