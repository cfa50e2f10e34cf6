#include "experiments/results/repeat_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hyperattn {

double median(std::vector<double> values) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }),
               values.end());
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return 0.5 * (*std::max_element(values.begin(), middle) + *middle);
}

double median_absolute_deviation(const std::vector<double>& values) {
  const double centre = median(values);
  std::vector<double> deviations;
  deviations.reserve(values.size());
  for (double value : values) deviations.push_back(std::abs(value - centre));
  return median(std::move(deviations));
}

double relative_error_of_median(const std::vector<double>& values) {
  if (values.size() == 1) return std::numeric_limits<double>::infinity();
  constexpr double kNormalSigmaPerMad = 1.4826;
  constexpr double kMedianErrorPerSigma = 1.2533;
  return kMedianErrorPerSigma * kNormalSigmaPerMad * median_absolute_deviation(values) /
         (std::sqrt(static_cast<double>(values.size())) * median(values));
}

}  // namespace hyperattn
