// Runs an experiment: checks every case first, then its trials one after the other, and stores a row per case
// and trial, each durable before the next begins. Resuming, shards, time limits, the first failure that stops
// a run, and warnings about noise are here, once for every command.
#pragma once

#include <functional>
#include <memory>

#include "experiments/running/experiment.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// Reads the experiment's configuration and makes its cases; files that it opens are noted as read.
using MakeExperiment = std::function<std::unique_ptr<Experiment>()>;

/// Returns 0, 4 (some trials failed; each is a row with its message) or 130 (interrupted: everything finished
/// so far is kept, and the way to resume is printed). Throws Error for what is found before anything runs,
/// and Error(environment) when the results cannot be stored.
int run_experiment(const RunOptions& options, const MakeExperiment& make);

}  // namespace hyperattn
