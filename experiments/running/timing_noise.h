// Whether a run's timings can be trusted, judged by the timings themselves: what the machine tells about
// itself before the run (core/machine.h) misses what happens during it.
#pragma once

#include <cstdint>
#include <string>

#include "experiments/results/trial_record.h"

namespace hyperattn {

/// When the timings of a trial count as steady, and what makes them steadier.
struct SteadyTimings {
  double tolerated = 0.05;        ///< relative error of the median
  std::string parts = "repeats";  ///< what a trial has several timings of
  std::string cure;               ///< "raise timing.repeats"
};

/// Counts the trials whose median is uncertain by more than is tolerated. A single repeat tells nothing and
/// is not counted.
class TimingNoise {
 public:
  explicit TimingNoise(SteadyTimings steady) : steady_(std::move(steady)) {}

  /// `label` names the trial in the warning.
  void add(const TrialRecord& record, const std::string& label);
  /// One sentence with cause and cure, or nothing where all timings are steady.
  [[nodiscard]] std::string warning() const;

 private:
  SteadyTimings steady_;
  int64_t timed_ = 0;
  int64_t noisy_ = 0;
  double worst_ = 0;
  std::string worst_label_;
};

}  // namespace hyperattn
