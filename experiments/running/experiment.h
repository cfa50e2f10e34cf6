// What a command that fills a results file has to say of itself, so that one runner (runner.h) does the rest:
// its cases, what they cost, and how one trial runs.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/results/trial_record.h"
#include "experiments/running/timing_noise.h"

namespace hyperattn {

/// One row of the results for each trial.
struct RunCase {
  std::string id;
  std::string parameters;  ///< all resolved ones, as JSON
  size_t point = 0;        ///< its input point; cases of a point run together and lie in the same shard
};

/// What a case is expected to cost.
struct CaseCost {
  double flops = 0;             ///< as `Experiment::flops_of` says
  std::optional<double> bytes;  ///< known for all cases of an experiment, or for none
  double seconds = 0;           ///< of one trial
};

/// Trial `number` of one input point.
struct Trial {
  size_t point = 0;
  int64_t number = 0;
  std::vector<size_t> missing;  ///< positions in `Experiment::cases` of those to be recorded, ascending
  std::vector<size_t> stored;   ///< those of the same point that have their row already
  double case_timeout = std::numeric_limits<double>::infinity();  ///< seconds for each case
};

/// Hears of a trial while it runs.
class TrialObserver {
 public:
  TrialObserver() = default;
  virtual ~TrialObserver() = default;
  TrialObserver(const TrialObserver&) = delete;
  TrialObserver& operator=(const TrialObserver&) = delete;

  /// What is being done now, for the progress bar.
  virtual void doing(const std::string& what) = 0;
  /// A part of the trial's `weight` is done.
  virtual void advance(double weight) = 0;
  /// Stores the row of a case of the trial; it is durable when this returns. False where no further case is
  /// to begin (--fail-fast). Error(environment): it cannot be stored.
  virtual bool store(size_t index, const TrialRecord& record) = 0;
};

class Experiment {
 public:
  virtual ~Experiment() = default;
  Experiment(const Experiment&) = delete;
  Experiment& operator=(const Experiment&) = delete;

  [[nodiscard]] const ExperimentConfig& config() const { return config_; }
  [[nodiscard]] const Grid& grid() const { return grid_; }

  /// The whole plan, also in a shard; those of an input point stand together, points in the grid's order.
  [[nodiscard]] virtual std::vector<RunCase> cases() const = 0;
  /// A short line for people: "hyper block_size=64 on gaussian seq_len=4096".
  [[nodiscard]] virtual std::string describe(size_t index) const = 0;

  /// May measure this machine when first called.
  [[nodiscard]] virtual CaseCost cost(size_t index) = 0;
  /// What `CaseCost::flops` counts: "call" or "trial".
  [[nodiscard]] virtual const char* flops_of() const = 0;
  /// What `CaseCost::seconds` leaves out: " for the calls (…)", or nothing.
  [[nodiscard]] virtual const char* time_note() const { return ""; }
  /// A number in proportion to the expected time of a trial.
  [[nodiscard]] virtual double weight(const Trial& trial) const = 0;

  /// Reads the files of these input points whole, so that a bad value in one is found before anything runs;
  /// `quick` (a dry run): only what takes no time. Throws Error(input).
  virtual void check_contents(const std::set<size_t>& points, bool quick) = 0;
  /// Whether trials read these files again, so that the run ends where one has changed.
  [[nodiscard]] virtual bool reads_again() const = 0;

  /// A row for every missing case; a case that fails is a row with its message. Throws Cancelled(interrupt)
  /// when the process was asked to stop, and nothing else that a case could cause.
  virtual void run(const Trial& trial, TrialObserver& observer) = 0;
  /// The figures of a row that most readers want: "12.3 ms, 3.4 x exact"; may be empty.
  [[nodiscard]] virtual std::string figures(const TrialRecord& record) const = 0;
  /// When repeats of a trial are too uneven, and what helps.
  [[nodiscard]] virtual SteadyTimings steady() const = 0;

  /// The resolved configuration that this version makes of one that an earlier version stored.
  [[nodiscard]] virtual std::string resolve_again(const std::string& stored) const = 0;

 protected:
  /// Expands the grid and checks its cases; errors as expand_grid and validate_cases.
  explicit Experiment(ExperimentConfig config) : config_(std::move(config)), grid_(expand_grid(config_)) {
    validate_cases(config_, grid_);
  }

 private:
  ExperimentConfig config_;
  Grid grid_;
};

}  // namespace hyperattn
