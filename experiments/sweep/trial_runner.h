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

/// Whether a case can serve as the baseline of speedups: `exact` and `dense`.
[[nodiscard]] bool is_baseline(const Case& grid_case);

}  // namespace hyperattn
