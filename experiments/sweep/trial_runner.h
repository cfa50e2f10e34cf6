// One trial of one input point: makes the inputs, times the backends in interleaved order, takes the
// measures.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/results/trial_record.h"
#include "experiments/running/timing_noise.h"

namespace hyperattn {

struct TrialPlan {
  const ExperimentConfig* config = nullptr;
  const InputPoint* point = nullptr;
  int64_t trial = 0;
  std::vector<const Case*> cases;      ///< to be recorded, of `point`
  std::vector<const Case*> baselines;  ///< other cases of `point` that only serve as baseline (not recorded)
  double case_timeout = std::numeric_limits<double>::infinity();  ///< seconds
};

/// Called before work on a case, with what is done ("warm-up", "repeat 2", "spectral_error").
using OnStep = std::function<void(const Case&, const std::string& step)>;

/// A row for every case of the plan, in its order; a case that fails is a row with its message. Throws
/// Cancelled(interrupt) when the process was asked to stop, and nothing else that a case could cause.
[[nodiscard]] std::vector<TrialRecord> run_trial(const TrialPlan& plan, const OnStep& on_step);

/// Whether a case can serve as the baseline of speedups: its method is exact.
[[nodiscard]] bool is_baseline(const Case& grid_case);

/// Steady by 5 %, or by `relative_error` where repeats are adaptive (those that are not ended at
/// max_repeats).
[[nodiscard]] SteadyTimings steady_timings(const TimingConfig& timing);

/// Whether a trial calls its backends again and again for their times.
[[nodiscard]] bool takes_times(const ExperimentConfig& config);
/// Whether a trial computes figures of a call's result, and so what is exact beside it.
[[nodiscard]] bool takes_measures(const ExperimentConfig& config);

}  // namespace hyperattn
