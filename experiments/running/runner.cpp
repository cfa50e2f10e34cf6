#include "experiments/running/runner.h"

#include <fmt/core.h>

#include <filesystem>

#include "algorithms/backend.h"
#include "core/cancel.h"
#include "core/error.h"
#include "experiments/files/read_log.h"
#include "experiments/results/result_store.h"
#include "experiments/running/dry_run.h"
#include "experiments/running/pinning.h"
#include "experiments/running/progress.h"
#include "experiments/running/session.h"
#include "experiments/running/timing_noise.h"
#include "experiments/running/trials.h"

namespace hyperattn {
namespace {

/// Throws Error(environment) for the first case whose engine cannot run on this machine.
void check_engines(const Grid& grid) {
  for (const Case& grid_case : grid.cases) {
    const Engine& engine = grid_case.backend->engine();
    if (const std::string missing = engine.available(); !missing.empty())
      fail_environment(
          fmt::format("engine '{}' of backend '{}' {}", engine.name(), grid_case.backend->name(), missing));
  }
}

/// All but the provenance and the files that it reads.
RunDescription describe_run(const Experiment& experiment, const std::vector<RunCase>& cases,
                            const RunOptions& options) {
  RunDescription run;
  run.name = experiment.config().name;
  run.config = experiment.config().resolved_yaml;
  run.trials_per_case = experiment.config().trials;
  run.resolve_again = [&experiment](const std::string& stored) { return experiment.resolve_again(stored); };
  if (options.shard.count > 1)
    run.shard = std::to_string(options.shard.index) + "/" + std::to_string(options.shard.count);
  for (const RunCase& one : cases) run.cases.push_back({one.id, one.parameters});
  return run;
}

/// The trials of a run, and what becomes of their rows.
class Runner final : public TrialObserver {
 public:
  Runner(Experiment& experiment, const std::vector<Trial>& trials, const std::vector<ReadDigest>& files,
         ResultStore& store)
      : experiment_(experiment),
        trials_(trials),
        files_(files),
        store_(store),
        noise_(experiment.steady()),
        progress_(rows_of(trials), weight_of(experiment, trials)) {}

  Outcome run(bool fail_fast) {
    fail_fast_ = fail_fast;
    try {
      for (const Trial& trial : trials_) {
        number_ = trial.number;
        experiment_.run(trial, *this);
        if (outcome_.stopped) break;
        throw_if_cancelled();
      }
    } catch (const Cancelled&) {
      outcome_.interrupted = true;
    }
    outcome_.warning = noise_.warning();
    return outcome_;
  }

  void doing(const std::string& what) override { progress_.doing(what); }
  void advance(double weight) override { progress_.advance(weight); }

  bool store(size_t index, const TrialRecord& record) override {
    if (experiment_.reads_again()) refuse_changed();
    store_.append(record);
    ++outcome_.stored;
    const std::string label = fmt::format("{}, trial {}", experiment_.describe(index), number_);
    noise_.add(record, label);
    const std::string line = label + row_end(record);
    if (!record.ok()) outcome_.failures.push_back(line);
    progress_.row_done(line, !record.ok());
    outcome_.stopped = fail_fast_ && !outcome_.failures.empty();
    return !outcome_.stopped;
  }

 private:
  static int64_t rows_of(const std::vector<Trial>& trials) {
    int64_t rows = 0;
    for (const Trial& trial : trials) rows += static_cast<int64_t>(trial.missing.size());
    return rows;
  }

  static double weight_of(const Experiment& experiment, const std::vector<Trial>& trials) {
    double weight = 0;
    for (const Trial& trial : trials) weight += experiment.weight(trial);
    return weight;
  }

  /// Rows of different contents must not lie under one name.
  void refuse_changed() const {
    if (const std::string changed = changed_file(files_); !changed.empty())
      fail_input(fmt::format(
          "'{}' was changed while the run read it; the trials before are stored, of its old contents",
          changed));
  }

  [[nodiscard]] std::string row_end(const TrialRecord& record) const {
    if (!record.ok()) return ": failed: " + record.row.text("message");
    const std::string figures = experiment_.figures(record);
    return figures.empty() ? "" : ": " + figures;
  }

  Experiment& experiment_;
  const std::vector<Trial>& trials_;
  const std::vector<ReadDigest>& files_;
  ResultStore& store_;
  TimingNoise noise_;
  Progress progress_;
  Outcome outcome_;
  int64_t number_ = 0;
  bool fail_fast_ = false;
};

}  // namespace

int run_experiment(const RunOptions& options, const MakeExperiment& make) {
  ReadLog log;
  const std::unique_ptr<Experiment> experiment = make();
  const std::vector<RunCase> cases = experiment->cases();
  RunDescription run = describe_run(*experiment, cases, options);
  const std::string output = output_path(options, experiment->config());
  const bool resumes = !options.force && std::filesystem::exists(output);
  const bool quick = options.dry_run && !resumes;
  experiment->check_contents(points_of(cases, options.shard), quick);
  log.stop();
  log.refuse_output(output);
  if (!quick) run.files = log.digests();
  if (options.dry_run) {
    print_dry_run(*experiment, run, options);
    return 0;
  }
  check_engines(experiment->grid());
  run.provenance = describe_session(options);
  ResultStore store(output, run, what_if_existing(options));
  if (options.pin) pin_threads();
  const std::vector<Trial> trials = missing_trials(cases, experiment->config().trials, options,
                                                   [&](const TrialKey& key) { return store.is_done(key); });
  const Outcome outcome = Runner(*experiment, trials, run.files, store).run(options.fail_fast);
  add_warning(outcome.warning, store);
  store.finish(!outcome.interrupted && !outcome.stopped);
  return report_outcome(options, output, outcome);
}

}  // namespace hyperattn
