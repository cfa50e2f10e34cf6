// Measures the error of hyper in memory: ‖E‖/(‖P‖‖V‖) for two sample sizes.
#include <algorithms/attention.h>
#include <core/random.h>
#include <experiments/measures/context.h>
#include <experiments/measures/measure.h>

#include <cstdio>

using namespace hyperattn;

namespace {

Tensor<float> gaussian(Purpose purpose) {
  Tensor<float> tensor(TensorShape{1, 1, 256, 16});
  const RandomStream stream(/*seed=*/1, purpose);
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    tensor.data()[i] = static_cast<float>(stream.normal(static_cast<uint64_t>(i)));
  return tensor;
}

}  // namespace

int main() {
  const Tensor<float> query = gaussian(Purpose::query);
  const Tensor<float> key = gaussian(Purpose::key);
  const Tensor<float> value = gaussian(Purpose::value);
  const AttentionProblem problem = attention_problem(query.view(), key.view(), value.view());
  const Backend& hyper = *find_backend("hyper");
  ExactQuantities exact(problem, hyper.engine(), /*seed=*/1, /*trial=*/0);
  const Measure& error = *find_measure("spectral_error");
  for (const int64_t sample_size : {16, 256}) {
    Call call;
    call.parameters = resolve_settings("method 'hyper'", hyper.parameters(),
                                       {{"block_size", int64_t{32}}, {"sample_size", sample_size}});
    const ForwardState answer = hyper.forward(problem, call);
    MeasureContext context(hyper, call, answer, exact);
    const auto rows = error.compute(context, default_parameters(error.parameters()));
    std::printf("sample_size %3d: epsilon %.2g\n", static_cast<int>(sample_size),
                rows.front().figures.at("epsilon"));
  }
}
