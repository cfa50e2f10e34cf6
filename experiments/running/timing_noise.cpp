#include "experiments/running/timing_noise.h"

#include <vector>

#include "core/text.h"
#include "experiments/results/repeat_statistics.h"

namespace hyperattn {
void TimingNoise::add(const TrialRecord& record, const std::string& label) {
  std::vector<double> seconds;
  for (const TimingRow& timing : record.timings)
    if (timing.stage == kTotalStage) seconds.push_back(timing.seconds);
  if (!record.ok() || seconds.size() < 2) return;
  ++timed_;
  const double error = relative_error_of_median(seconds);
  if (error <= steady_.tolerated) return;
  ++noisy_;
  if (error <= worst_) return;
  worst_ = error;
  worst_label_ = label;
}

std::string TimingNoise::warning() const {
  if (noisy_ == 0) return {};
  return "the timings of " + std::to_string(noisy_) + " of " + std::to_string(timed_) +
         " trials are noisy: their " + steady_.parts + " leave the median uncertain by more than " +
         percent_text(steady_.tolerated) + " (at worst " + percent_text(worst_) + ", " + worst_label_ +
         "), as other work, a changing clock rate or wandering threads make them; stop other work, "
         "bind threads with --pin, or " +
         steady_.cure;
}

}  // namespace hyperattn
