// Runs a sweep: checks every case first, then times the backends on each input point, takes the measures and
// stores a row per case and trial, each durable before the next begins.
#pragma once

#include "experiments/running/run_options.h"

namespace hyperattn {

/// `hyperattn run`. Returns 0, 4 (some trials failed; each is a row with its message) or 130 (interrupted:
/// everything finished so far is kept, and the way to resume is printed). Throws Error for what is found
/// before anything runs, and Error(environment) when the results cannot be stored.
int run_experiment(const RunOptions& options);

}  // namespace hyperattn
