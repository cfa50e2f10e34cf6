#include "experiments/benchmarks/measured.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "experiments/results/repeat_statistics.h"

namespace hyperattn {
namespace {

constexpr double kCertain = 0.02;
// Beyond this the error falls with the root of the rounds alone: a busy machine stays busy.
constexpr int kPatience = 4;

}  // namespace

bool Measured::is_certain() const {
  return error <= kCertain;
}

std::string Measured::uncertainty() const {
  return fmt::format(
      "{:.3g} is certain to {:.1f} % only, after {} rounds: the machine is too busy for {:.0f} %", value,
      100 * error, rounds, 100 * kCertain);
}

Measured measured(const std::vector<double>& rounds) {
  return {median(rounds), 2 * relative_error_of_median(rounds), static_cast<int>(rounds.size())};
}

bool is_enough(const std::vector<Measured>& figures, int least) {
  return std::all_of(figures.begin(), figures.end(), [&](const Measured& figure) {
    return figure.rounds >= least && (figure.is_certain() || figure.rounds >= kPatience * least);
  });
}

Measured measure(const std::function<double()>& round, int least) {
  std::vector<double> rounds;
  while (!is_enough({measured(rounds)}, least)) rounds.push_back(round());
  return measured(rounds);
}

Measured operator/(const Measured& numerator, const Measured& denominator) {
  return {numerator.value / denominator.value, std::hypot(numerator.error, denominator.error),
          numerator.error > denominator.error ? numerator.rounds : denominator.rounds};
}

Measured operator*(double factor, const Measured& figure) {
  return {factor * figure.value, figure.error, figure.rounds};
}

}  // namespace hyperattn
