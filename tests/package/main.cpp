// A user's program: attention of Gaussian queries, keys and values, exact and by hyper, through the installed
// library. Prints how far the two lie apart for growing samples; with all keys sampled, hyper is exact.
#include <algorithms/attention.h>
#include <core/random.h>

#include <cmath>
#include <cstdio>

using namespace hyperattn;

static Tensor<float> gaussian(Purpose purpose) {
  Tensor<float> tensor(TensorShape{/*batch=*/1, /*heads=*/1, /*rows=*/1024, /*dim=*/32});
  const RandomStream stream(/*seed=*/1, purpose);
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    tensor.data()[i] = static_cast<float>(stream.normal(static_cast<uint64_t>(i)));
  return tensor;
}

/// ‖a − b‖_F/‖b‖_F.
static double relative_distance(const Tensor<float>& a, const Tensor<float>& b) {
  double difference = 0;
  double size = 0;
  for (int64_t i = 0; i < b.shape().size(); ++i) {
    difference += std::pow(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]), 2);
    size += std::pow(static_cast<double>(b.data()[i]), 2);
  }
  return std::sqrt(difference / size);
}

int main() {
  const Tensor<float> query = gaussian(Purpose::query);
  const Tensor<float> key = gaussian(Purpose::key);
  const Tensor<float> value = gaussian(Purpose::value);
  const AttentionProblem problem = attention_problem(query.view(), key.view(), value.view());

  const ForwardState exact = Attention("exact").forward(problem);
  for (const int64_t sample_size : {64, 256, 1024}) {
    const Attention hyper("hyper", {{"block_size", int64_t{64}}, {"sample_size", sample_size}});
    const ForwardState approximate = hyper.forward(problem);
    std::printf("sample_size %4d: relative error %.2g\n", static_cast<int>(sample_size),
                relative_distance(approximate.result.out, exact.result.out));
  }
}
