// What a run has to do: the input points of its shard, and for each trial the cases that are still missing.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/results/result_store.h"
#include "experiments/running/run_options.h"
#include "experiments/sweep/trial_runner.h"

namespace hyperattn {

/// Where the results go: -o, or the configuration's output, with ".shard-I-of-N" before its extension in a
/// shard.
[[nodiscard]] std::string output_path(const RunOptions& options, const ExperimentConfig& config);

/// What --resume would find in the output.
struct StoredTrials {
  std::set<TrialKey> done;  ///< trials with status `ok`
  std::string problem;      ///< why --resume would refuse it; `done` is empty then
};

/// Nothing where there is no such file, or where --force would replace it. Error(input): it is no results
/// file.
[[nodiscard]] StoredTrials stored_trials(const std::string& output, const RunDescription& run,
                                         const RunOptions& options);

/// The last lines of a dry run about the output.
void print_stored(const StoredTrials& stored, const std::string& output, int64_t trials, int64_t trials_done);

using IsDone = std::function<bool(const TrialKey&)>;

/// In the order of running: input points of the shard, their trials. Trials without missing cases are left
/// out.
[[nodiscard]] std::vector<TrialPlan> plan_trials(const ExperimentConfig& config, const Grid& grid,
                                                 const RunOptions& options, const IsDone& is_done);

/// A number in proportion to the expected time of a trial.
[[nodiscard]] double trial_weight(const TrialPlan& plan);

/// What `where:` dropped, and what axes of parameters without an effect would have repeated.
void print_left_out(const Grid& grid);

/// The table of --dry-run: cases of the shard with their cost, what is dropped and why, what is done already.
void print_plan(const ExperimentConfig& config, const Grid& grid, const RunDescription& run,
                const RunOptions& options);

}  // namespace hyperattn
