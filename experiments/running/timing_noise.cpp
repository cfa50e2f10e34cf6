#include "experiments/running/timing_noise.h"

#include <fmt/core.h>

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
  return fmt::format(
      "the timings of {} of {} trials are noisy: their {} leave the median uncertain by more than {} (at "
      "worst {}, {}), as other work, a changing clock rate or wandering threads make them; stop other "
      "work, bind threads with --pin, or {}",
      noisy_, timed_, steady_.parts, percent_text(steady_.tolerated), percent_text(worst_), worst_label_,
      steady_.cure);
}

}  // namespace hyperattn
