#include <algorithm>
#include <memory>
#include <vector>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cpu/clip.h"
#include "algorithms/engines/cpu/forward_worker.h"
#include "algorithms/engines/cpu/run_plan.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kSlackInBf16 = 0x1p-8;  // a unit of the values in the range of a clip

/// Divides by the denominators what several phases have summed. Returns the number of guarded rows.
int64_t finish_rows(const ForwardRun& run) {
  constexpr int64_t kChunk = 1024;
  const int64_t rows = run.problem.heads() * run.problem.query_count();
  const int64_t dim = run.options.values ? run.problem.value_dim() : 0;
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  std::vector<int64_t> guarded(static_cast<size_t>(chunks), 0);
  AttentionResult& result = run.result;
  parallel_for(chunks, [&](int64_t chunk, int) {
    for (int64_t row = chunk * kChunk; row < std::min(rows, (chunk + 1) * kChunk); ++row) {
      double& sum = result.sums.sum.data()[row];
      const double absolute = run.absolute.empty() ? 0 : run.absolute[row];
      const FinishedRow finished = finish_row(run, row, result.sums.maximum.data()[row], sum, absolute);
      result.lse.data()[row] = finished.lse;
      for (int64_t c = 0; c < dim; ++c) result.out.data()[row * dim + c] *= finished.factor;
      if (!finished.guarded) continue;
      sum = 0;
      ++guarded[static_cast<size_t>(chunk)];
    }
  });
  int64_t total = 0;
  for (const int64_t count : guarded) total += count;
  return total;
}

AttentionResult empty_result(const AttentionProblem& problem, const Plan& plan,
                             const EngineOptions& options) {
  TensorShape shape = problem.query.shape;
  AttentionResult result;
  shape.dim = 1;
  result.lse = Tensor<float>(shape);
  result.sums.maximum = Tensor<float>(shape);
  result.sums.sum = Tensor<double>(shape);
  if (!options.values) return result;
  shape.dim = problem.value_dim();
  result.out = Tensor<float>(shape);
  if (plan.clip_to_values) result.clipped = Tensor<uint8_t>(shape, 0);
  return result;
}

/// Rows that the first phase does not begin start without a key.
void start_rows(AttentionResult& result, Buffer<double>& absolute) {
  parallel_fill(result.out.data(), result.out.shape().size(), 0.0F);
  parallel_fill(result.sums.maximum.data(), result.sums.maximum.shape().size(), kNoScore);
  parallel_fill(result.sums.sum.data(), result.sums.sum.shape().size(), 0.0);
  parallel_fill(absolute.data(), absolute.size(), 0.0);
}

/// One worker a thread, made when it is needed, for the largest tiles of all phases (small groups are tiles
/// of their own).
struct Workers {
  std::vector<std::unique_ptr<ForwardWorker>> of_thread;
  int64_t rows = kQueryTile;

  Workers(const Plan& plan, const TileLayout& layout) : of_thread(static_cast<size_t>(thread_count())) {
    for (const Phase& phase : plan.phases) rows = std::max(rows, query_tile_rows(phase, layout));
  }
};

void run_phase(const ForwardRun& run, const Phase& phase, Workers& workers, double& gather_seconds) {
  const Stopwatch watch;
  const int64_t tile_rows = query_tile_rows(phase, run.layout);
  const std::vector<QueryJob> jobs = make_jobs(phase, tile_rows);
  const SharedTables shared{SharedLists(run.problem, phase, run.layout, tile_rows), EntryRanges(jobs)};
  gather_seconds += watch.seconds();
  const size_t threads = workers.of_thread.size();
  parallel_for(static_cast<int64_t>(jobs.size()), [&](int64_t j, int worker) {
    auto& mine = workers.of_thread[static_cast<size_t>(worker)];
    if (!mine) mine = std::make_unique<ForwardWorker>(run.layout, workers.rows);
    const size_t next = static_cast<size_t>(j) + threads;
    mine->run(run, shared, jobs[static_cast<size_t>(j)], next < jobs.size() ? &jobs[next] : nullptr);
  });
}

/// Sums up what the workers noted: stage seconds (the mean over workers), capped entries, guarded rows.
void collect(const Workers& workers, const EngineOptions& options, Diagnostics& diagnostics) {
  if (options.capped_entries != nullptr) *options.capped_entries = 0;
  for (const auto& worker : workers.of_thread) {
    if (!worker) continue;
    for (int s = 0; s < static_cast<int>(Stage::count); ++s)
      if (const double spent = worker->seconds(static_cast<Stage>(s)); spent > 0)
        diagnostics.stage_seconds[stage_name(static_cast<Stage>(s))] +=
            spent / static_cast<double>(workers.of_thread.size());
    if (options.capped_entries != nullptr) *options.capped_entries += worker->capped();
    diagnostics.guarded_rows += worker->guarded();
  }
}

}  // namespace

AttentionResult run_forward(const AttentionProblem& problem, const Plan& plan, const EngineOptions& options,
                            Precision precision) {
  require_valid_plan(problem, plan);
  refuse_unsuited_options(plan, options);
  const bool is_plain = options.denominators == nullptr && options.score_cap == nullptr;
  const TileLayout layout(problem, options.values, precision == Precision::bf16 && is_plain);
  AttentionResult result = empty_result(problem, plan, options);
  const bool starts_all_rows = !plan.phases.empty() && covers_all_rows(plan.phases[0], problem);
  const bool finishes = plan.phases.size() == 1 && starts_all_rows;
  Buffer<double> absolute(has_signed_weights(plan) ? result.lse.shape().size() : 0);
  if (!starts_all_rows) start_rows(result, absolute);
  ForwardRun run{problem, options, layout, result, absolute, finishes, false};
  Workers workers(plan, layout);
  double gather_seconds = 0;
  for (const Phase& phase : plan.phases) {
    run.resumes = !starts_all_rows || &phase != &plan.phases.front();
    run_phase(run, phase, workers, gather_seconds);
  }
  Diagnostics& diagnostics = result.diagnostics;
  diagnostics.stage_seconds[stage_name(Stage::gather)] += gather_seconds;
  collect(workers, options, diagnostics);
  const Stopwatch watch;
  if (!finishes) diagnostics.guarded_rows += finish_rows(run);
  if (plan.clip_to_values && options.values)
    clip_to_values(problem, precision == Precision::bf16 ? kSlackInBf16 : 0, result);
  if (!finishes || plan.clip_to_values)
    diagnostics.stage_seconds[stage_name(Stage::merge)] += watch.seconds();
  diagnostics.entries = count_entries(plan);
  return result;
}

}  // namespace hyperattn
