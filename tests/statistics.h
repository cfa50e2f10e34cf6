// Means over many draws against what they should be: random algorithms are tested as estimators.
#pragma once

#include <algorithm>
#include <cmath>

namespace hyperattn::testing {

/// Largest |z| that a test takes for chance. For one comparison its probability is 7e-6, so that even a
/// hundred comparisons fail by chance once in 1500 choices of seeds; the seeds are fixed.
constexpr double kZBound = 4.5;

/// A quantity seen in independent draws.
struct Moments {
  double count = 0;
  double sum = 0;
  double squares = 0;

  void add(double x) {
    count += 1;
    sum += x;
    squares += x * x;
  }
  [[nodiscard]] double mean() const { return sum / count; }
  /// Standard error of the mean, from the spread of the draws.
  [[nodiscard]] double standard_error() const {
    return std::sqrt(std::max(squares / count - mean() * mean(), 0.0) / (count - 1));
  }
  /// (mean − expected) in standard errors; 0 where all draws are equal to what is expected, up to rounding.
  [[nodiscard]] double z(double expected) const {
    const double difference = mean() - expected;
    if (std::abs(difference) < 1e-12 * (1 + std::abs(expected))) return 0;
    return difference / standard_error();
  }
};

}  // namespace hyperattn::testing
