#include "experiments/sweep/trial_runner.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "algorithms/backend.h"
#include "algorithms/masks/mask.h"
#include "algorithms/registry.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/timing.h"
#include "experiments/inputs/generators.h"
#include "experiments/inputs/mask_file.h"
#include "experiments/measures/context.h"
#include "experiments/results/repeat_statistics.h"
#include "experiments/running/attempt.h"
#include "experiments/running/estimates.h"
#include "experiments/running/input_columns.h"

namespace hyperattn {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// What all cases of the trial share.
struct SharedProblem {
  AttentionInputs inputs;
  Tensor<float> output_gradient;  ///< empty unless gradients are timed
  AttentionProblem problem;
  std::map<std::string, std::unique_ptr<BoundProblem>> bound;  ///< by engine, device and precision
};

/// A case on its way to a row.
struct Job {
  const Case* grid_case = nullptr;
  bool recorded = true;
  Call context;
  std::optional<HeavyMask> mask;
  TrialRecord record;
  std::vector<double> seconds;  ///< by repeat
  double spent = 0;             ///< of the case's time limit
  double entries = kNaN;
  bool failed = false;
};

struct CallResult {
  ForwardState state;
  std::optional<AttentionGradients> gradients;
  double seconds = 0;
};

bool times_backward(const Job& job) {
  return job.grid_case->pass == PassKind::forward_backward;
}

void fail(Job& job, const std::string& message) {
  job.failed = true;
  job.record.fail(message);
}

/// Runs `work` within what is left of the case's time; what it throws makes the job a failed one.
void attempt(Job& job, double time_limit, const std::function<void()>& work) {
  const Stopwatch watch;
  if (const std::string why = why_failed(time_limit, job.spent, work); !why.empty()) fail(job, why);
  job.spent += watch.seconds();
}

/// `wanted` beyond what is held already.
void require_available(double wanted) {
  const auto available = static_cast<double>(available_memory_bytes());
  if (wanted > available) require_memory(wanted, "the case");
}

SharedProblem make_problem(const TrialPlan& plan) {
  const InputPoint& point = *plan.point;
  SharedProblem shared;
  require_memory(input_bytes(*point.shapes), "the inputs q, k and v");
  shared.inputs = point.source->make(point.parameters, plan.config->seed, static_cast<uint32_t>(plan.trial));
  AttentionProblem& problem = shared.problem;
  problem.query = shared.inputs.query.view();
  problem.key = shared.inputs.key.view();
  problem.value = shared.inputs.value.view();
  problem.scale = point.scale ? static_cast<float>(*point.scale) : default_scale(problem.head_dim());
  problem.causal = point.causal;
  check_problem(problem);
  if (plan.config->timing.pass == PassKind::forward_backward) {
    TensorShape shape = problem.query.shape;
    shape.dim = problem.value_dim();
    shared.output_gradient = Tensor<float>(shape);
    fill_normal(shared.output_gradient, {plan.config->seed, static_cast<uint32_t>(plan.trial)},
                Purpose::output_gradient);
  }
  return shared;
}

/// How it is measured.
void describe_settings(const ExperimentConfig& config, TrialRecord& record) {
  const std::vector<ParameterSpec>& timing = timing_parameters();
  for (const ParameterSpec& spec : timing)
    if (why_no_effect(spec, timing, config.timing.parameters).empty())
      record.set_parameters({spec}, config.timing.parameters);
  for (const MeasureEntry& entry : config.measures)
    record.set_parameters(entry.measure->parameters(), entry.parameters);
}

/// The columns that are known before anything runs.
void describe(const TrialPlan& plan, const Case& grid_case, TrialRecord& record) {
  const InputPoint& point = *plan.point;
  RowValues& row = record.row;
  describe_input(point, record);
  record.set_parameters(grid_case.backend->parameters(), grid_case.parameters);
  describe_settings(*plan.config, record);
  row.set_text("case_id", grid_case.id);
  row.set_text("backend", grid_case.backend->name());
  row.set_text("engine", grid_case.backend->engine().name());
  row.set_text("pass", pass_name(grid_case.pass));
  row.set_integer("trial", plan.trial);
  row.set_seed("seed", plan.config->seed);
  row.set_integer("threads", thread_count());
}

std::unique_ptr<Job> make_job(const TrialPlan& plan, const Case& grid_case, bool recorded) {
  auto job = std::make_unique<Job>();
  job->grid_case = &grid_case;
  job->recorded = recorded;
  job->context.parameters = grid_case.parameters;
  job->context.seed = plan.config->seed;
  job->context.trial = static_cast<uint32_t>(plan.trial);
  describe(plan, grid_case, job->record);
  job->record.succeed();
  return job;
}

void read_mask(Job& job, const AttentionProblem& problem) {
  const Parameters& parameters = job.context.parameters;
  if (!job.grid_case->backend->method().wants_callers_mask(parameters)) return;
  job.mask = read_mask_file(parameters.text(kMaskPath), problem.query.shape.batch, problem.query.shape.heads,
                            problem.query_count(), problem.key_count());
  job.context.mask = &*job.mask;
}

std::string ground(const Job& job) {
  return job.grid_case->backend->ground(job.grid_case->parameters);
}

/// The inputs where the job's engine computes, which all jobs of an input point on that engine share.
const BoundProblem& bound_problem(const Job& job, SharedProblem& shared) {
  const Backend& backend = *job.grid_case->backend;
  auto& bound = shared.bound[backend.engine().name() + " " + ground(job)];
  if (!bound) bound = backend.bind(shared.problem, job.context.parameters);
  return *bound;
}

/// One call as it is timed, checked afterwards. Copying between host and card is not part of its time.
CallResult call_backend(const Job& job, SharedProblem& shared) {
  const Backend& backend = *job.grid_case->backend;
  const BoundProblem& bound = bound_problem(job, shared);
  CallResult call;
  const Stopwatch watch;
  call.state = backend.forward(bound, job.context);
  if (times_backward(job))
    call.gradients = backend.backward(bound, job.context, call.state, shared.output_gradient.view());
  call.seconds = watch.seconds() - call.state.result.diagnostics.transfer_seconds();
  if (call.gradients) call.seconds -= call.gradients->diagnostics.transfer_seconds();
  check_result(call.state.result);
  if (call.gradients) check_gradients(*call.gradients);
  return call;
}

void record_diagnostics(Job& job, const Diagnostics& diagnostics, int64_t peak_bytes) {
  RowValues& row = job.record.row;
  row.set_integer("peak_bytes", peak_bytes);
  row.set_integer("entries", diagnostics.entries);
  job.entries = static_cast<double>(diagnostics.entries);
  if (!std::isnan(diagnostics.clipped_share)) row.set_number("clipped_share", diagnostics.clipped_share);
  if (!std::isnan(diagnostics.floored_share)) row.set_number("floored_share", diagnostics.floored_share);
  if (!std::isnan(diagnostics.drawn_keys)) row.set_number("drawn_keys", diagnostics.drawn_keys);
  if (!std::isnan(diagnostics.ceiling_share)) row.set_number("ceiling_share", diagnostics.ceiling_share);
}

/// The first call, which is not timed: its result feeds the measures and its buffers are counted.
void measure(const TrialPlan& plan, Job& job, SharedProblem& shared, ExactQuantities& exact,
             const OnStep& on_step) {
  const auto inputs = static_cast<int64_t>(input_bytes(*plan.point->shapes));
  read_mask(job, shared.problem);
  require_available(estimate_case(*plan.point, *job.grid_case, takes_measures(*plan.config)).bytes -
                    static_cast<double>(inputs));
  reset_peak_allocated_bytes();
  const int64_t held_before = allocated_bytes();
  on_step(*job.grid_case, "warm-up");
  const CallResult call = call_backend(job, shared);
  record_diagnostics(job, call.state.result.diagnostics, inputs + peak_allocated_bytes() - held_before);
  if (!job.recorded) return;
  MeasureContext context(*job.grid_case->backend, job.context, call.state, exact);
  for (const MeasureEntry& entry : plan.config->measures) {
    on_step(*job.grid_case, entry.measure->name());
    for (const FigureRow& figures : entry.measure->compute(context, entry.parameters))
      job.record.add(figures);
  }
}

void time_once(Job& job, SharedProblem& shared) {
  const CallResult call = call_backend(job, shared);
  const auto repeat = static_cast<int64_t>(job.seconds.size());
  job.seconds.push_back(call.seconds);
  job.record.add_timing(kTotalStage, repeat, call.seconds);
  for (const auto& [stage, seconds] : call.state.result.diagnostics.stage_seconds)
    job.record.add_timing(stage, repeat, seconds);
  if (!call.gradients) return;
  double backward = 0;
  for (const auto& [stage, seconds] : call.gradients->diagnostics.stage_seconds)
    if (stage != stage_name(Stage::transfer)) backward += seconds;
  job.record.add_timing(stage_name(Stage::backward), repeat, backward);
}

bool wants_repeat(const TimingConfig& timing, const Job& job) {
  const auto done = static_cast<int64_t>(job.seconds.size());
  if (job.failed) return false;
  if (!timing.adaptive) return done < timing.repeats;
  if (done < timing.min_repeats) return true;
  return done < timing.max_repeats && relative_error_of_median(job.seconds) > timing.relative_error;
}

/// Repeats in interleaved order, so that a slow change of the machine's speed meets all backends alike: round
/// r begins with job r (modulo their number).
void time_jobs(const TrialPlan& plan, std::vector<std::unique_ptr<Job>>& jobs, SharedProblem& shared,
               const OnStep& on_step) {
  const TimingConfig& timing = plan.config->timing;
  for (const auto& job : jobs)
    for (int64_t call = 1; call < timing.warmup && !job->failed; ++call)
      attempt(*job, plan.case_timeout, [&] { static_cast<void>(call_backend(*job, shared)); });
  for (size_t round = 0;; ++round) {
    bool any = false;
    for (size_t i = 0; i < jobs.size(); ++i) {
      Job& job = *jobs[(i + round) % jobs.size()];
      if (!wants_repeat(timing, job)) continue;
      any = true;
      on_step(*job.grid_case, "repeat " + std::to_string(round + 1));
      attempt(job, plan.case_timeout, [&] { time_once(job, shared); });
    }
    if (!any) return;
  }
}

/// Of those on the device and in the precision of `of`.
const Job* fastest_baseline(const std::vector<std::unique_ptr<Job>>& jobs, const Job& of) {
  const Job* best = nullptr;
  for (const auto& job : jobs)
    if (is_baseline(*job->grid_case) && !job->failed && !job->seconds.empty() && ground(*job) == ground(of) &&
        (best == nullptr || median(job->seconds) < median(best->seconds)))
      best = job.get();
  return best;
}

void record_times(Job& job, const InputShapes& shapes, const Job* baseline) {
  if (job.failed || job.seconds.empty()) return;
  RowValues& row = job.record.row;
  const double seconds = median(job.seconds);
  row.set_number("seconds", seconds);
  row.set_number("seconds_mad", median_absolute_deviation(job.seconds));
  row.set_number("gflops", counted_flops(job.entries, shapes, job.grid_case->pass) / seconds / 1e9);
  if (baseline == nullptr) return;
  row.set_text("baseline_backend", baseline->grid_case->backend->name());
  row.set_text("baseline_engine", baseline->grid_case->backend->engine().name());
  row.set_number("baseline_seconds", median(baseline->seconds));
  row.set_number("speedup", median(baseline->seconds) / seconds);
}

/// A failed case keeps no figure and no timing: nothing of it can be trusted.
void clear_outcome(const TrialPlan& plan, Job& job) {
  const std::string message = job.record.row.text("message");
  TrialRecord record;
  describe(plan, *job.grid_case, record);
  job.record = std::move(record);
  fail(job, message);
}

/// The default engine, unless a case has another device: then what is exact is computed there, too.
const Engine& engine_of_exact_quantities(const std::vector<std::unique_ptr<Job>>& jobs) {
  for (const auto& job : jobs) {
    const Engine& engine = job->grid_case->backend->engine();
    if (engine.device() != default_engine().device() && engine.available().empty()) return engine;
  }
  return default_engine();
}

void run_jobs(const TrialPlan& plan, std::vector<std::unique_ptr<Job>>& jobs, const OnStep& on_step) {
  SharedProblem shared;
  Job inputs;  // stands for the making of the inputs, which no case is charged for
  attempt(inputs, std::numeric_limits<double>::infinity(), [&] { shared = make_problem(plan); });
  if (inputs.failed) {
    for (const auto& job : jobs) fail(*job, inputs.record.row.text("message"));
    return;
  }
  {
    ExactQuantities exact(shared.problem, engine_of_exact_quantities(jobs), plan.config->seed,
                          static_cast<uint32_t>(plan.trial));
    for (const auto& job : jobs)
      attempt(*job, plan.case_timeout, [&] { measure(plan, *job, shared, exact, on_step); });
  }
  if (takes_times(*plan.config)) time_jobs(plan, jobs, shared, on_step);
  for (const auto& job : jobs) record_times(*job, *plan.point->shapes, fastest_baseline(jobs, *job));
}

}  // namespace

bool is_baseline(const Case& grid_case) {
  return grid_case.backend->is_baseline();
}

SteadyTimings steady_timings(const TimingConfig& timing) {
  SteadyTimings steady;
  steady.cure = "raise timing.repeats or set it to auto";
  if (timing.adaptive) {
    steady.tolerated = timing.relative_error;
    steady.cure = fmt::format("raise timing.max_repeats ({})", timing.max_repeats);
  }
  return steady;
}

bool takes_times(const ExperimentConfig& config) {
  return std::any_of(config.measures.begin(), config.measures.end(),
                     [](const MeasureEntry& entry) { return entry.measure->is_of_times(); });
}

bool takes_measures(const ExperimentConfig& config) {
  return std::any_of(config.measures.begin(), config.measures.end(),
                     [](const MeasureEntry& entry) { return !entry.measure->is_of_times(); });
}

std::vector<TrialRecord> run_trial(const TrialPlan& plan, const OnStep& on_step) {
  std::vector<std::unique_ptr<Job>> jobs;
  for (const Case* grid_case : plan.cases) jobs.push_back(make_job(plan, *grid_case, true));
  for (const Case* grid_case : plan.baselines) jobs.push_back(make_job(plan, *grid_case, false));
  run_jobs(plan, jobs, on_step);
  std::vector<TrialRecord> records;
  for (const auto& job : jobs) {
    if (!job->recorded) continue;
    if (job->failed) clear_outcome(plan, *job);
    records.push_back(std::move(job->record));
  }
  return records;
}

}  // namespace hyperattn
