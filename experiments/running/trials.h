// What a run has to do: the input points of its shard, and for each trial the cases that are still missing.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "experiments/running/experiment.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// Where the results go: -o, or the configuration's output, with ".shard-I-of-N" before its extension in a
/// shard.
[[nodiscard]] std::string output_path(const RunOptions& options, const ExperimentConfig& config);

[[nodiscard]] bool in_shard(size_t point, const Shard& shard);

/// The input points of the shard that have cases.
[[nodiscard]] std::set<size_t> points_of(const std::vector<RunCase>& cases, const Shard& shard);

using IsDone = std::function<bool(const TrialKey&)>;

/// In the order of running: input points of the shard, their trials. Trials without missing cases are left
/// out.
[[nodiscard]] std::vector<Trial> missing_trials(const std::vector<RunCase>& cases, int64_t trials_per_case,
                                                const RunOptions& options, const IsDone& is_done);

}  // namespace hyperattn
