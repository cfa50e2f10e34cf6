// A figure that is measured in rounds until it is certain, or until the machine has shown itself too busy.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace hyperattn {

struct Measured {
  double value = 0;  ///< the median of the rounds
  double error = 0;  ///< two standard errors of it (repeat_statistics.h), relative to it
  int rounds = 0;

  [[nodiscard]] bool is_certain() const;
  /// What is to be said of a figure that is not certain: rounds and error.
  [[nodiscard]] std::string uncertainty() const;
};

/// The median of these rounds.
[[nodiscard]] Measured measured(const std::vector<double>& rounds);

/// Whether there have been enough rounds: `least` at least, and all of these are certain to 2 %, or four
/// times as many were not enough.
[[nodiscard]] bool is_enough(const std::vector<Measured>& figures, int least);

/// Takes rounds until there are enough of them.
[[nodiscard]] Measured measure(const std::function<double()>& round, int least);

/// A quotient of two medians, as uncertain as both together.
[[nodiscard]] Measured operator/(const Measured& numerator, const Measured& denominator);
[[nodiscard]] Measured operator*(double factor, const Measured& figure);

}  // namespace hyperattn
