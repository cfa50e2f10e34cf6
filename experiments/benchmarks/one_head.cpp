#include "experiments/benchmarks/one_head.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "core/timing.h"
#include "experiments/inputs/generators.h"
#include "experiments/results/repeat_statistics.h"

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

CallSeconds median_call(const std::string& backend, const OneHead& head, bool backward, int repeats) {
  if (repeats > 1) static_cast<void>(time_call(backend, head, backward));
  std::vector<double> forward_seconds;
  std::vector<double> backward_seconds;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const CallSeconds call = time_call(backend, head, backward);
    forward_seconds.push_back(call.forward);
    backward_seconds.push_back(call.backward);
  }
  return {median(std::move(forward_seconds)), median(std::move(backward_seconds))};
}

}  // namespace hyperattn
