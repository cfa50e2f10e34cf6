#include "experiments/sweep/run_plan.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "algorithms/backend.h"
#include "core/error.h"
#include "core/memory.h"
#include "experiments/results/result_store.h"
#include "experiments/running/progress.h"
#include "experiments/sweep/estimates.h"

namespace hyperattn {
namespace {

// Figures of exact attention that the measures share: about so many exact passes in each trial.
constexpr double kMeasurePasses = 60;
// What a call costs besides its score entries, in FLOPs.
constexpr double kCallOverhead = 1e8;

bool in_shard(size_t point, const Shard& shard) {
  return static_cast<int64_t>(point) % shard.count == shard.index;
}

bool wants_measures(const ExperimentConfig& config) {
  return std::any_of(config.measures.begin(), config.measures.end(),
                     [](const MeasureEntry& entry) { return entry.measure->name() != "timing"; });
}

double exact_entries(const InputShapes& shapes) {
  return static_cast<double>(shapes.query.matrices()) * static_cast<double>(shapes.query.rows) *
         static_cast<double>(shapes.key.rows);
}

double calls_per_trial(const TimingConfig& timing) {
  const int64_t repeats = timing.adaptive ? timing.min_repeats : timing.repeats;
  return static_cast<double>(std::max<int64_t>(1, timing.warmup) + repeats);
}

}  // namespace

void print_left_out(const Grid& grid) {
  for (const Dropped& dropped : grid.dropped) {
    std::printf("dropped %ld by where '%s', such as\n", static_cast<long>(dropped.count),
                dropped.predicate.c_str());
    for (const std::string& example : dropped.examples) std::printf("    %s\n", example.c_str());
  }
  for (const Collapsed& collapsed : grid.collapsed)
    std::printf("collapsed %ld that differ only in %s, which %s; such as\n    %s\n",
                static_cast<long>(collapsed.count), collapsed.parameter.c_str(), collapsed.why.c_str(),
                collapsed.example.c_str());
}

StoredTrials stored_trials(const std::string& output, const RunDescription& run, const RunOptions& options) {
  StoredTrials stored;
  if (options.force) return stored;
  const ResultsFile found = ResultStore::stored(output);
  if (found.cases.empty()) return stored;
  stored.problem = resume_problem(found, run);
  if (!stored.problem.empty()) return stored;
  for (const TrialRecord& record : found.trials)
    if (record.ok()) stored.done.insert(record.key());
  return stored;
}

void print_stored(const StoredTrials& stored, const std::string& output, int64_t trials,
                  int64_t trials_done) {
  std::printf("%ld trials, of which %ld are in '%s' already\n", static_cast<long>(trials),
              static_cast<long>(trials_done), output.c_str());
  if (!stored.problem.empty()) std::printf("note: %s\n", stored.problem.c_str());
}

std::string output_path(const RunOptions& options, const ExperimentConfig& config) {
  if (!options.output.empty()) return options.output;
  if (options.shard.count == 1) return config.output;
  std::filesystem::path path(config.output);
  const std::string extension = path.extension().string();
  path.replace_extension();
  return path.string() + ".shard-" + std::to_string(options.shard.index) + "-of-" +
         std::to_string(options.shard.count) + extension;
}

std::vector<TrialPlan> plan_trials(const ExperimentConfig& config, const Grid& grid,
                                   const RunOptions& options, const IsDone& is_done) {
  std::vector<std::vector<const Case*>> cases_of(grid.inputs.size());
  for (const Case& grid_case : grid.cases) cases_of[grid_case.input].push_back(&grid_case);
  std::vector<TrialPlan> plans;
  for (size_t point = 0; point < grid.inputs.size(); ++point) {
    if (!in_shard(point, options.shard)) continue;
    for (int64_t trial = 0; trial < config.trials; ++trial) {
      TrialPlan plan{&config, &grid.inputs[point], trial, {}, {}, options.case_timeout};
      for (const Case* grid_case : cases_of[point])
        if (!is_done({grid_case->id, trial}))
          plan.cases.push_back(grid_case);
        else if (is_baseline(*grid_case))
          plan.baselines.push_back(grid_case);
      if (!plan.cases.empty()) plans.push_back(std::move(plan));
    }
  }
  return plans;
}

double trial_weight(const TrialPlan& plan) {
  const InputPoint& point = *plan.point;
  double flops = 0;
  for (const auto* cases : {&plan.cases, &plan.baselines})
    for (const Case* grid_case : *cases)
      flops += calls_per_trial(plan.config->timing) *
               (estimate_case(point, *grid_case, false).flops + kCallOverhead);
  if (wants_measures(*plan.config))
    flops += kMeasurePasses * counted_flops(exact_entries(*point.shapes), *point.shapes, PassKind::forward);
  return flops;
}

void print_plan(const ExperimentConfig& config, const Grid& grid, const RunDescription& run,
                const RunOptions& options) {
  const std::string output = output_path(options, config);
  const StoredTrials stored = stored_trials(output, run, options);
  BackendSpeeds speeds;
  double seconds = 0;
  double largest = 0;
  int64_t trials = 0;
  int64_t trials_done = 0;
  int64_t cases = 0;
  std::printf("%-16s  %5s  %12s  %10s  %12s  %s\n", "case", "done", "work/call", "memory", "time", "what");
  for (const Case& grid_case : grid.cases) {
    if (!in_shard(grid_case.input, options.shard)) continue;
    const InputPoint& point = grid.inputs[grid_case.input];
    const CaseEstimate estimate = estimate_case(point, grid_case, wants_measures(config));
    int64_t finished = 0;
    for (int64_t trial = 0; trial < config.trials; ++trial)
      finished += stored.done.count({grid_case.id, trial}) != 0;
    const double case_seconds = estimate.flops / speeds.flops_per_second(point, grid_case) *
                                calls_per_trial(config.timing) *
                                static_cast<double>(config.trials - finished);
    const std::string share = std::to_string(finished) + "/" + std::to_string(config.trials);
    std::printf("%-16s  %5s  %12s  %10s  %12s  %s\n", grid_case.id.c_str(), share.c_str(),
                quantity_text(estimate.flops, "FLOP").c_str(), quantity_text(estimate.bytes, "B").c_str(),
                duration_text(case_seconds).c_str(), describe_case(point, grid_case).c_str());
    seconds += case_seconds;
    largest = std::max(largest, estimate.bytes);
    trials += config.trials;
    trials_done += finished;
    ++cases;
  }
  print_left_out(grid);
  std::printf("%ld cases, ", static_cast<long>(cases));
  print_stored(stored, output, trials, trials_done);
  std::printf("estimated: %s for the calls (measures come on top), at most %s of memory (%s available)\n",
              duration_text(seconds).c_str(), quantity_text(largest, "B").c_str(),
              quantity_text(static_cast<double>(available_memory_bytes()), "B").c_str());
}

}  // namespace hyperattn
