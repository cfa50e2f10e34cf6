#include "experiments/benchmarks/one_head.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "core/timing.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

constexpr Draw kDraw{2024, 0};

Tensor<float> normal_rows(int64_t rows, int64_t dim, Purpose purpose) {
  Tensor<float> tensor(TensorShape{1, 1, rows, dim});
  fill_normal(tensor, kDraw, purpose);
  return tensor;
}

const Backend& backend_called(const std::string& name) {
  const Backend* backend = find_backend(name);
  if (backend == nullptr) throw std::logic_error("no backend is called " + name);
  return *backend;
}

}  // namespace

OneHead::OneHead(int64_t rows, int64_t dim, bool causal)
    : query(normal_rows(rows, dim, Purpose::query)),
      key(normal_rows(rows, dim, Purpose::key)),
      value(normal_rows(rows, dim, Purpose::value)),
      output_gradient(normal_rows(rows, dim, Purpose::output_gradient)),
      problem{query.view(), key.view(), value.view(), default_scale(dim), causal} {}

Call headline_context(const Backend& backend) {
  const std::map<std::string, int64_t> settings = {
      {"block_size", 256}, {"sample_size", 256}, {"bucket_count", 128}, {"min_seq_len", 2048}};
  Call context;
  context.seed = kDraw.seed;
  context.parameters = default_parameters(backend.parameters());
  for (const auto& [name, value] : settings)
    if (context.parameters.has(name)) context.parameters.set(name, value);
  return context;
}

CallSeconds time_call(const std::string& backend_name, const OneHead& head, bool backward) {
  const Backend& backend = backend_called(backend_name);
  return time_call(backend, headline_context(backend), head, backward);
}

CallSeconds time_call(const Backend& backend, const Call& context, const OneHead& head, bool backward) {
  CallSeconds seconds;
  Stopwatch watch;
  const ForwardState state = backend.forward(head.problem, context);
  seconds.forward = watch.seconds();
  if (!backward) return seconds;
  watch.restart();
  const AttentionGradients gradients =
      backend.backward(head.problem, context, state, head.output_gradient.view());
  seconds.backward = watch.seconds();
  return seconds;
}

MeasuredCalls measure_calls(const std::string& backend, const OneHead& head, bool backward, int least) {
  constexpr double kLongCall = 1;
  std::vector<double> forward;
  std::vector<double> both;
  const auto add = [&](const CallSeconds& call) {
    forward.push_back(call.forward);
    both.push_back(call.both());
  };
  if (const CallSeconds first = time_call(backend, head, backward); first.both() > kLongCall) add(first);
  while (!is_enough({measured(forward), measured(both)}, least)) add(time_call(backend, head, backward));
  return {measured(forward), measured(both)};
}

}  // namespace hyperattn
