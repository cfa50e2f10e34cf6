// The pieces of decoders against plain loops in double: linear layers at sizes that fit no vector, in every
// stored type; norms of rows and of heads; activations.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "experiments/language_model/layers.h"

using namespace hyperattn;

namespace {

std::vector<float> random_values(int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(normal(engine));
  return values;
}

std::shared_ptr<StoredValues> stored(const std::vector<float>& values) {
  auto result = std::make_shared<StoredValues>(StoredType::f32, static_cast<int64_t>(values.size()));
  std::copy_n(reinterpret_cast<const unsigned char*>(values.data()), values.size() * sizeof(float),
              result->data());
  return result;
}

Buffer<float> buffer_of(const std::vector<float>& values) {
  Buffer<float> buffer(static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), buffer.begin());
  return buffer;
}

double activated(Activation activation, double x) {
  const double cubic = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(cubic));
    case Activation::gelu_quick:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu_squared:
      return x > 0 ? x * x : 0;
  }
  return NAN;
}

}  // namespace

TEST_CASE("layers: a packed linear layer is W x + b, whole or some outputs of it") {
  for (const int64_t inputs : {1, 7, 511, 512, 513, 1030})
    for (const int64_t outputs : {1, 15, 16, 17, 64, 65, 131})
      for (const int64_t rows : {1, 5, 13}) {
        const auto seed = static_cast<unsigned>(inputs * 1000 + outputs);
        const std::vector<float> weights = random_values(outputs * inputs, seed);
        const std::vector<float> bias = random_values(outputs, seed + 1);
        const std::vector<float> x = random_values(rows * inputs, seed + 2);
        const bool has_bias = outputs % 2 == 1;
        const Linear linear{outputs, inputs, stored(weights), has_bias ? buffer_of(bias) : Buffer<float>()};
        PackedLinear packed;
        for (const int64_t begin : {int64_t{0}, outputs / 2}) {
          packed.pack(linear, begin, outputs);
          CHECK(packed.columns() == PackedLinear::padded(outputs - begin));
          std::vector<float> y(static_cast<size_t>(rows * packed.columns()), NAN);
          packed.multiply({x.data(), rows, inputs, inputs},
                          {y.data(), rows, packed.columns(), packed.columns()});
          double largest = 0;
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < outputs - begin; ++j) {
              double sum = has_bias ? static_cast<double>(bias[static_cast<size_t>(begin + j)]) : 0;
              for (int64_t k = 0; k < inputs; ++k)
                sum += static_cast<double>(weights[static_cast<size_t>((begin + j) * inputs + k)]) *
                       static_cast<double>(x[static_cast<size_t>(i * inputs + k)]);
              const double ours = static_cast<double>(y[static_cast<size_t>(i * packed.columns() + j)]);
              largest = std::max(largest, std::isnan(ours) ? INFINITY : std::abs(ours - sum));
            }
          CAPTURE(inputs, outputs, rows, begin);
          CHECK(largest < 2e-6 * std::sqrt(static_cast<double>(inputs)) * 4);
        }
      }
}

TEST_CASE("layers: norms of rows, of heads with one weight and with their own") {
  const int64_t width = 13;
  const int64_t groups = 3;
  const std::vector<float> x = random_values(width * groups, 4);
  const auto check = [&](NormKind kind, int64_t weights, bool biased) {
    const std::vector<float> weight = random_values(weights, 5);
    const std::vector<float> bias = random_values(weights, 6);
    const Norm norm{{kind, 1e-3, weights > 0, biased, 0},
                    buffer_of(weight),
                    buffer_of(biased ? bias : std::vector<float>())};
    std::vector<float> y = x;
    norm.apply(y.data(), groups, width, y.data());  // in place
    for (int64_t i = 0; i < groups * width; ++i) {
      const int64_t group = i / width;
      double mean = 0;
      double square = 0;
      for (int64_t j = 0; j < width; ++j)
        mean += static_cast<double>(x[static_cast<size_t>(group * width + j)]);
      mean = kind == NormKind::layer ? mean / static_cast<double>(width) : 0;
      for (int64_t j = 0; j < width; ++j)
        square += std::pow(static_cast<double>(x[static_cast<size_t>(group * width + j)]) - mean, 2);
      double expected = (static_cast<double>(x[static_cast<size_t>(i)]) - mean) /
                        std::sqrt(square / static_cast<double>(width) + 1e-3);
      const auto place = static_cast<size_t>(weights > width ? i : i % width);
      if (weights > 0) expected *= static_cast<double>(weight[place]);
      if (biased) expected += static_cast<double>(bias[place]);
      CHECK(static_cast<double>(y[static_cast<size_t>(i)]) == Approx(expected).margin(2e-6));
    }
  };
  check(NormKind::rms, width, false);
  check(NormKind::rms, width * groups, false);
  check(NormKind::layer, width, true);
  check(NormKind::layer, width * groups, false);
  check(NormKind::layer, 0, false);
}

TEST_CASE("layers: activations") {
  std::vector<float> inputs;
  for (int i = -240; i <= 240; ++i) inputs.push_back(static_cast<float>(i) / 16.0F);
  for (const Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh,
                                      Activation::gelu_quick, Activation::relu, Activation::relu_squared}) {
    std::vector<float> values = inputs;
    const auto count = static_cast<int64_t>(values.size());
    activate(activation, {values.data(), 1, count, count});
    for (size_t i = 0; i < inputs.size(); ++i) {
      CAPTURE(static_cast<int>(activation), inputs[i]);
      CHECK(static_cast<double>(values[i]) ==
            Approx(activated(activation, static_cast<double>(inputs[i]))).epsilon(1e-6).margin(2e-6));
    }
  }
}
