#include "experiments/running/timing_noise.h"

#include <cstdio>
#include <vector>

#include "experiments/results/repeat_statistics.h"

namespace hyperattn {
namespace {

constexpr double kTolerated = 0.05;

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g %%", 100 * share);
  return text;
}

}  // namespace

double TimingNoise::bound() const {
  return timing_.adaptive ? timing_.relative_error : kTolerated;
}

void TimingNoise::add(const TrialRecord& record, const std::string& label) {
  std::vector<double> seconds;
  for (const TimingRow& timing : record.timings)
    if (timing.stage == kTotalStage) seconds.push_back(timing.seconds);
  if (!record.ok() || seconds.size() < 2) return;
  ++timed_;
  const double error = relative_error_of_median(seconds);
  if (error <= bound()) return;
  ++noisy_;
  if (error <= worst_) return;
  worst_ = error;
  worst_label_ = label;
}

std::string TimingNoise::warning() const {
  if (noisy_ == 0) return {};
  const std::string more = timing_.adaptive
                               ? "raise timing.max_repeats (" + std::to_string(timing_.max_repeats) + ")"
                               : "raise timing.repeats or set it to auto";
  return "the timings of " + std::to_string(noisy_) + " of " + std::to_string(timed_) +
         " trials are noisy: their repeats leave the median uncertain by more than " + percent(bound()) +
         " (at worst " + percent(worst_) + ", " + worst_label_ +
         "), as other work, a changing clock rate or wandering threads make them; stop other work, "
         "bind threads with --pin, or " +
         more;
}

}  // namespace hyperattn
