#include "experiments/sweep/sweep.h"

#include <fmt/core.h>

#include <algorithm>

#include "algorithms/backend.h"
#include "algorithms/masks/mask.h"
#include "core/text.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/inputs/mask_file.h"
#include "experiments/running/estimates.h"
#include "experiments/running/runner.h"
#include "experiments/sweep/trial_runner.h"

namespace hyperattn {
namespace {

// What the measures of a trial cost, in exact passes over all n·n entries. Measured at n = 4096, d = 64 with
// two to five cases (Zen 4, two threads, seconds of the run less those with `timing` alone): 8 to 11 for
// spectral_error, 18 to 40 for all measures, most where causal.
constexpr double kMeasurePasses = 20;
// What a row costs besides its entries, in FLOPs, most of it to be stored before the next: 0.6 ms at n = 1,
// where a further call took 0.01 ms, at the 190 GFLOP/s of exact attention at n = 1024 (the same machine).
constexpr double kRowOverhead = 1e8;

void check_mask_file(const InputPoint& point, const Case& grid_case) {
  const Parameters& parameters = grid_case.parameters;
  if (!grid_case.backend->method().wants_callers_mask(parameters)) return;
  static_cast<void>(read_mask_file(parameters.text(kMaskPath), point.shapes->query.batch,
                                   point.shapes->query.heads, point.shapes->query.rows,
                                   point.shapes->key.rows));
}

double exact_entries(const InputShapes& shapes) {
  return static_cast<double>(shapes.query.matrices()) * static_cast<double>(shapes.query.rows) *
         static_cast<double>(shapes.key.rows);
}

double calls_per_trial(const TimingConfig& timing) {
  const int64_t repeats = timing.adaptive ? timing.min_repeats : timing.repeats;
  return static_cast<double>(std::max<int64_t>(1, timing.warmup) + repeats);
}

class Sweep final : public Experiment {
 public:
  explicit Sweep(ExperimentConfig config) : Experiment(std::move(config)) {}

  [[nodiscard]] std::vector<RunCase> cases() const override {
    std::vector<RunCase> all;
    for (const Case& one : grid().cases)
      all.push_back({one.id, case_parameters_json(config(), grid(), one), one.input});
    return all;
  }

  [[nodiscard]] std::string describe(size_t index) const override {
    return describe_case(point_of(index), grid().cases[index]);
  }

  [[nodiscard]] CaseCost cost(size_t index) override {
    const Case& one = grid().cases[index];
    const CaseEstimate estimate = estimate_case(point_of(index), one, takes_measures(config()));
    const double seconds = estimate.flops / speeds_.flops_per_second(point_of(index), one);
    return {estimate.flops, estimate.bytes, seconds * calls_per_trial(config().timing)};
  }

  [[nodiscard]] const char* flops_of() const override { return "call"; }
  [[nodiscard]] const char* time_note() const override { return " for the calls (measures come on top)"; }

  [[nodiscard]] double weight(const Trial& trial) const override {
    const InputPoint& point = grid().inputs[trial.point];
    const TrialPlan plan = plan_of(trial);
    double flops = 0;
    for (const auto* cases : {&plan.cases, &plan.baselines})
      for (const Case* one : *cases)
        flops += calls_per_trial(config().timing) * estimate_case(point, *one, false).flops + kRowOverhead;
    if (takes_measures(config()))
      flops += kMeasurePasses * counted_flops(exact_entries(*point.shapes), *point.shapes, PassKind::forward);
    return flops;
  }

  void check_contents(const std::set<size_t>& points, bool quick) override {
    if (quick) return;
    for (const size_t point : points)
      grid().inputs[point].source->check_contents(grid().inputs[point].parameters);
    for (const Case& one : grid().cases)
      if (points.count(one.input) != 0) check_mask_file(grid().inputs[one.input], one);
  }

  [[nodiscard]] bool reads_again() const override { return true; }

  void run(const Trial& trial, TrialObserver& observer) override {
    const TrialPlan plan = plan_of(trial);
    const std::vector<TrialRecord> records = run_trial(plan, [&](const Case& one, const std::string& step) {
      observer.doing(step + ": " + describe_case(*plan.point, one));
    });
    // All were timed together, so all are kept, whatever one of them did.
    for (size_t i = 0; i < records.size(); ++i)
      static_cast<void>(observer.store(trial.missing[i], records[i]));
    observer.advance(weight(trial));
  }

  /// "12.3 ms, 3.4 x exact, epsilon 0.012".
  [[nodiscard]] std::string figures(const TrialRecord& record) const override {
    const RowValues& row = record.row;
    std::vector<std::string> figures;
    if (row.has("seconds")) figures.push_back(fmt::format("{:.4g} ms", 1e3 * row.number("seconds")));
    if (row.has("speedup"))
      figures.push_back(fmt::format("{:.3g} x {}", row.number("speedup"), row.text("baseline_backend")));
    if (row.has("epsilon")) figures.push_back(fmt::format("epsilon {:.3g}", row.number("epsilon")));
    return join(figures);
  }

  [[nodiscard]] SteadyTimings steady() const override { return steady_timings(config().timing); }

  [[nodiscard]] std::string resolve_again(const std::string& stored) const override {
    return read_config_text(stored, "the stored configuration").resolved_yaml;
  }

 private:
  [[nodiscard]] const InputPoint& point_of(size_t index) const {
    return grid().inputs[grid().cases[index].input];
  }

  [[nodiscard]] TrialPlan plan_of(const Trial& trial) const {
    TrialPlan plan{&config(), &grid().inputs[trial.point], trial.number, {}, {}, trial.case_timeout};
    for (const size_t index : trial.missing) plan.cases.push_back(&grid().cases[index]);
    for (const size_t index : trial.stored)
      if (is_baseline(grid().cases[index])) plan.baselines.push_back(&grid().cases[index]);
    return plan;
  }

  BackendSpeeds speeds_;
};

}  // namespace

int run_sweep(const RunOptions& options) {
  return run_experiment(options, [&] {
    return std::make_unique<Sweep>(read_config(options.config, options.overrides, options.group));
  });
}

}  // namespace hyperattn
