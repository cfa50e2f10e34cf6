// What a run has to do: the input points of its shard, and for each trial the cases that are still missing.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/results/results_file.h"
#include "experiments/run_options.h"
#include "experiments/trial_runner.h"

namespace hyperattn {

/// Where the results go: -o, or the configuration's output, with ".shard-I-of-N" before its extension in a
/// shard.
[[nodiscard]] std::string output_path(const RunOptions& options, const ExperimentConfig& config);

/// The trials with status `ok` that the output holds already; none where there is no such file. Error(input):
/// it is no results file.
[[nodiscard]] std::set<TrialKey> stored_trials(const std::string& output);

using IsDone = std::function<bool(const TrialKey&)>;

/// In the order of running: input points of the shard, their trials. Trials without missing cases are left
/// out.
[[nodiscard]] std::vector<TrialPlan> plan_trials(const ExperimentConfig& config, const Grid& grid,
                                                 const RunOptions& options, const IsDone& is_done);

/// A number in proportion to the expected time of a trial.
[[nodiscard]] double trial_weight(const TrialPlan& plan);

/// The table of --dry-run: cases of the shard with their cost, what is dropped and why, what is done already.
void print_plan(const ExperimentConfig& config, const Grid& grid, const RunOptions& options);

}  // namespace hyperattn
