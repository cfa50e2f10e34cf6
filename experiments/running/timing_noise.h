// Whether a run's timings can be trusted, judged by the timings themselves: what the machine tells about
// itself before the run (core/machine.h) misses what happens during it.
#pragma once

#include <cstdint>
#include <string>

#include "experiments/config/config.h"
#include "experiments/results/trial_record.h"

namespace hyperattn {

/// Counts the trials whose median is uncertain: by more than `relative_error` where repeats are adaptive
/// (they ended at max_repeats), by more than 5 % otherwise. A single repeat tells nothing and is not counted.
class TimingNoise {
 public:
  explicit TimingNoise(const TimingConfig& timing) : timing_(timing) {}

  /// `label` names the trial in the warning.
  void add(const TrialRecord& record, const std::string& label);
  /// One sentence with cause and cure, or nothing where all timings are steady.
  [[nodiscard]] std::string warning() const;

 private:
  [[nodiscard]] double bound() const;

  const TimingConfig& timing_;
  int64_t timed_ = 0;
  int64_t noisy_ = 0;
  double worst_ = 0;
  std::string worst_label_;
};

}  // namespace hyperattn
