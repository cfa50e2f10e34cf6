// A user's program: attention of Gaussian queries, keys and values, exact and by hyper, through the installed
// library. Prints how far the two lie apart for growing samples; with all keys sampled, hyper is exact.
#include <algorithms/backend.h>
#include <core/error.h>
#include <core/random.h>

#include <cmath>
#include <cstdio>

using namespace hyperattn;

namespace {

constexpr int64_t kRows = 1024;
constexpr int64_t kDim = 32;

Tensor<float> gaussian(Purpose purpose) {
  Tensor<float> tensor(TensorShape{1, 1, kRows, kDim});
  const RandomStream stream(/*seed=*/1, purpose);
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    tensor.data()[i] = static_cast<float>(stream.normal(static_cast<uint64_t>(i)));
  return tensor;
}

Tensor<float> attention(const std::string& name, const AttentionProblem& problem, Parameters changes = {}) {
  const Backend* backend = find_backend(name);
  if (backend == nullptr) fail_usage("there is no backend '" + name + "'");
  CallContext context;
  context.parameters = default_parameters(backend->parameters());
  for (const auto& [key, value] : changes.all()) context.parameters.set(key, value);
  return backend->forward(problem, context).result.out;
}

/// ‖a − b‖_F/‖b‖_F.
double relative_distance(const Tensor<float>& a, const Tensor<float>& b) {
  double difference = 0;
  double size = 0;
  for (int64_t i = 0; i < b.shape().size(); ++i) {
    const double wanted = b.data()[i];
    difference += (a.data()[i] - wanted) * (a.data()[i] - wanted);
    size += wanted * wanted;
  }
  return std::sqrt(difference / size);
}

}  // namespace

int main() {
  const Tensor<float> query = gaussian(Purpose::query);
  const Tensor<float> key = gaussian(Purpose::key);
  const Tensor<float> value = gaussian(Purpose::value);
  AttentionProblem problem;
  problem.query = query.view();
  problem.key = key.view();
  problem.value = value.view();
  problem.scale = default_scale(kDim);

  const Tensor<float> exact = attention("exact", problem);
  for (const int64_t sample_size : {64, 256, 1024}) {
    Parameters changes;
    changes.set("block_size", int64_t{64});
    changes.set("sample_size", sample_size);
    const Tensor<float> approximate = attention("hyper", problem, changes);
    std::printf("sample_size %4d: relative error %.2g\n", static_cast<int>(sample_size),
                relative_distance(approximate, exact));
  }
}
