// `hyperattn run`: a sweep from its YAML file.
#pragma once

#include "experiments/running/run_options.h"

namespace hyperattn {

/// Returns the exit code; errors as run_experiment (running/runner.h).
int run_sweep(const RunOptions& options);

}  // namespace hyperattn
