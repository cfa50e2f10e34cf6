#include "experiments/running/runner.h"

#include <cstdio>
#include <filesystem>
#include <set>

#include "core/cancel.h"
#include "core/error.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/files/read_log.h"
#include "experiments/inputs/mask_file.h"
#include "experiments/results/result_store.h"
#include "experiments/running/pinning.h"
#include "experiments/running/progress.h"
#include "experiments/running/session.h"
#include "experiments/running/timing_noise.h"
#include "experiments/sweep/run_plan.h"
#include "experiments/sweep/trial_runner.h"

namespace hyperattn {
namespace {

bool never_done(const TrialKey&) {
  return false;
}

void check_mask_file(const InputPoint& point, const Case& grid_case) {
  const Parameters& parameters = grid_case.parameters;
  if (!parameters.has("mask") || parameters.text("mask") != "file") return;
  static_cast<void>(read_mask_file(parameters.text("mask_path"), point.shapes->query.batch,
                                   point.shapes->query.heads, point.shapes->query.rows,
                                   point.shapes->key.rows));
}

/// Throws Error(environment) for the first case whose engine cannot run on this machine.
void check_engines(const Grid& grid) {
  for (const Case& grid_case : grid.cases) {
    const Engine& engine = grid_case.backend->engine();
    if (const std::string missing = engine.available(); !missing.empty())
      fail_environment("engine '" + engine.name() + "' of backend '" + grid_case.backend->name() + "' " +
                       missing);
  }
}

/// Reads input and mask files whole, so that a bad value in one is found before anything runs.
void check_files(const ExperimentConfig& config, const Grid& grid, const RunOptions& options) {
  std::set<const InputPoint*> checked;
  for (const TrialPlan& plan : plan_trials(config, grid, options, never_done)) {
    if (!checked.insert(plan.point).second) continue;
    plan.point->source->check_contents(plan.point->parameters);
    for (const Case* grid_case : plan.cases) check_mask_file(*plan.point, *grid_case);
  }
}

/// All but the provenance.
RunDescription describe_run(const ExperimentConfig& config, const Grid& grid, const RunOptions& options) {
  RunDescription run;
  run.name = config.name;
  run.config = config.resolved_yaml;
  run.trials_per_case = config.trials;
  run.resolve_again = [](const std::string& stored) {
    return read_config_text(stored, "the stored configuration").resolved_yaml;
  };
  if (options.shard.count > 1)
    run.shard = std::to_string(options.shard.index) + "/" + std::to_string(options.shard.count);
  for (const Case& grid_case : grid.cases)
    run.cases.push_back({grid_case.id, case_parameters_json(config, grid, grid_case)});
  return run;
}

std::string milliseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g ms", 1e3 * seconds);
  return text;
}

/// "hyper block_size=64 on gaussian seq_len=4096, trial 0: 12.3 ms, 3.4 x exact, epsilon 0.012".
std::string row_line(const InputPoint& point, const Case& grid_case, const TrialRecord& record) {
  const RowValues& row = record.row;
  std::string line = describe_case(point, grid_case) + ", trial " + std::to_string(row.integer("trial"));
  if (!record.ok()) return line + ": failed: " + row.text("message");
  std::string separator = ": ";
  const auto add = [&](const std::string& figure) {
    line += separator + figure;
    separator = ", ";
  };
  char text[64];
  if (row.has("seconds")) add(milliseconds(row.number("seconds")));
  if (row.has("speedup")) {
    std::snprintf(text, sizeof text, "%.3g x %s", row.number("speedup"),
                  row.text("baseline_backend").c_str());
    add(text);
  }
  if (row.has("epsilon")) {
    std::snprintf(text, sizeof text, "epsilon %.3g", row.number("epsilon"));
    add(text);
  }
  return line;
}

/// Stores the rows of one trial; each is durable before it is reported.
void store_rows(const TrialPlan& plan, const std::vector<TrialRecord>& records, ResultStore& store,
                Progress& progress, TimingNoise& noise, Outcome& outcome) {
  for (size_t i = 0; i < records.size(); ++i) {
    store.append(records[i]);
    noise.add(records[i],
              describe_case(*plan.point, *plan.cases[i]) + ", trial " + std::to_string(plan.trial));
    ++outcome.stored;
    const std::string line = row_line(*plan.point, *plan.cases[i], records[i]);
    if (!records[i].ok()) outcome.failures.push_back(line);
    progress.row_done(line, !records[i].ok());
  }
}

/// Rows of different contents must not lie under one name.
void refuse_changed(const std::vector<ReadDigest>& files) {
  if (const std::string changed = changed_file(files); !changed.empty())
    fail_input("'" + changed +
               "' was changed while the run read it; the trials before are stored, of its old contents");
}

/// The sweep itself.
Outcome run_trials(const RunOptions& options, const std::vector<TrialPlan>& plans,
                   const std::vector<ReadDigest>& files, ResultStore& store, TimingNoise& noise) {
  int64_t rows = 0;
  double weight = 0;
  for (const TrialPlan& plan : plans) {
    rows += static_cast<int64_t>(plan.cases.size());
    weight += trial_weight(plan);
  }
  Outcome outcome;
  Progress progress(rows, weight);
  try {
    for (const TrialPlan& plan : plans) {
      const auto on_step = [&](const Case& grid_case, const std::string& step) {
        progress.doing(step + ": " + describe_case(*plan.point, grid_case));
      };
      const std::vector<TrialRecord> records = run_trial(plan, on_step);
      refuse_changed(files);
      store_rows(plan, records, store, progress, noise, outcome);
      progress.advance(trial_weight(plan));
      outcome.stopped = options.fail_fast && !outcome.failures.empty();
      if (outcome.stopped) break;
      throw_if_cancelled();
    }
  } catch (const Cancelled&) {
    outcome.interrupted = true;
  }
  return outcome;
}

}  // namespace

int run_experiment(const RunOptions& options) {
  ReadLog log;
  const ExperimentConfig config = read_config(options.config, options.overrides, options.group);
  const Grid grid = expand_grid(config);
  validate_cases(config, grid);
  RunDescription run = describe_run(config, grid, options);
  const std::string output = output_path(options, config);
  const bool resumes = !options.force && std::filesystem::exists(output);
  if (!options.dry_run || resumes) check_files(config, grid, options);
  log.stop();
  log.refuse_output(output);
  if (!options.dry_run || resumes) run.files = log.digests();
  if (options.dry_run) {
    print_plan(config, grid, run, options);
    return 0;
  }
  check_engines(grid);
  run.provenance = describe_session(options);
  ResultStore store(output, run, what_if_existing(options));
  if (options.pin) pin_threads();
  const std::vector<TrialPlan> plans =
      plan_trials(config, grid, options, [&](const TrialKey& key) { return store.is_done(key); });
  TimingNoise noise(config.timing);
  const Outcome outcome = run_trials(options, plans, run.files, store, noise);
  add_warning(noise.warning(), store);
  store.finish(!outcome.interrupted && !outcome.stopped);
  return report_outcome(options, output, outcome);
}

}  // namespace hyperattn
