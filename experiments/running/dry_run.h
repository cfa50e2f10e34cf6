// `--dry-run`: what would run, what it would cost, and what is done already.
#pragma once

#include <string>

#include "experiments/results/result_store.h"
#include "experiments/running/experiment.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// Prints the cases of the shard with their cost, what the grid left out and why, and what --resume would
/// find in the output. Error(input): the output is no results file.
void print_dry_run(Experiment& experiment, const RunDescription& run, const RunOptions& options);

}  // namespace hyperattn
