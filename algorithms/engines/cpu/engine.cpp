#include "algorithms/engines/cpu/engine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "algorithms/engines/cpu/masking.h"
#include "algorithms/engines/cpu/query_terms.h"
#include "algorithms/engines/cpu/schedule.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr int64_t kRowGroup = 24;  // rows whose scores stay in L1: a multiple of every level's register rows
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// What rows carry from one phase to the next; the accumulator is `out` itself.
struct RunningState {
  Buffer<float> maximum;
  Buffer<double> sum;

  explicit RunningState(int64_t rows) : maximum(rows, kNoScore), sum(rows, 0.0) {}
};

/// Everything that all workers share and none writes, except rows of the result that they own.
struct ForwardRun {
  const AttentionProblem& problem;
  const EngineOptions& options;
  const TileLayout& layout;
  AttentionResult& result;
  RunningState* state;  ///< null: one phase, so rows are finished on the spot
  bool resumes;         ///< rows may have a state from an earlier phase
};

/// A worker's scratch memory and its bookkeeping.
class ForwardWorker {
 public:
  explicit ForwardWorker(const TileLayout& layout)
      : queries_(kQueryTile * layout.head_dim),
        accumulator_(kQueryTile * layout.value_columns),
        scores_(kRowGroup * kKeyTile),
        keys_(layout.key_tile_floats()),
        values_(layout.value_tile_floats()),
        bias_(kKeyTile),
        masked_bias_(kKeyTile),
        query_norm_(kQueryTile),
        bound_(kQueryTile),
        maximum_(kQueryTile),
        sum_(kQueryTile),
        maximum_before_(kQueryTile),
        sum_before_(kQueryTile),
        query_terms_(layout) {}

  void run(const ForwardRun& run, const SharedLists& shared, const QueryJob& job);

  [[nodiscard]] double seconds(Stage stage) const { return seconds_[static_cast<size_t>(stage)]; }
  [[nodiscard]] int64_t capped() const { return capped_; }

 private:
  /// Query rows in flight: positions [begin, begin + count) of a pass.
  struct Rows {
    const Pass* pass;
    int64_t begin;
    int64_t count;
  };

  void run_rows(const ForwardRun& run, const SharedLists& shared, const QueryJob& job,
                const QueryGroup& group, const Rows& rows);
  [[gnu::always_inline]] static void prefetch_out(const ForwardRun& run, const Rows& rows, int64_t i) {
    const int64_t row = rows.pass->queries[rows.begin + i];
    prefetch_row(run.result.out.matrix(rows.pass->head).row(row), run.layout.value_dim);
  }
  void load_rows(const ForwardRun& run, const Rows& rows);
  void add_moments(const QueryGroup& group, const Rows& rows);
  void add_linear_values(const Rows& rows);
  [[nodiscard]] RowStates states_of(const Rows& rows) {
    return {rows.count, queries_.data(), maximum_.data(), sum_.data(), accumulator_.data()};
  }
  void store_rows(const ForwardRun& run, const Rows& rows);
  void visit_list(const ForwardRun& run, const PackedList* packed, const Visit& visit, const Rows& rows);
  void bound_scores(const KeyTile& tile, const Rows& rows, int64_t first, int64_t count);
  void attend(const ForwardRun& run, const KeyTile& tile, const KeyList& list, const Rows& rows);
  void cap_scores(const ForwardRun& run, const KeyList& list, const Rows& rows, int64_t first, int64_t count,
                  int64_t columns);
  void book(Stage stage) {
    seconds_[static_cast<size_t>(stage)] += watch_.seconds();
    watch_.restart();
  }

  Buffer<float> queries_;      // scaled to base 2, row-major
  Buffer<float> accumulator_;  // Σ weight·value, row-major
  Buffer<float> scores_;
  Buffer<float> keys_;
  Buffer<float> values_;
  Buffer<float> bias_;
  Buffer<float> masked_bias_;
  Buffer<float> query_norm_;  // of the scaled queries
  Buffer<float> bound_;
  Buffer<float> maximum_;
  Buffer<double> sum_;
  Buffer<float> maximum_before_;  // of the linear lists
  Buffer<double> sum_before_;
  QueryTerms query_terms_;
  std::array<double, static_cast<size_t>(Stage::count)> seconds_{};
  Stopwatch watch_;
  int64_t capped_ = 0;
};

void ForwardWorker::run(const ForwardRun& run, const SharedLists& shared, const QueryJob& job) {
  watch_.restart();
  const bool one_group = job.group_end - job.group_begin == 1;
  for (int64_t g = job.group_begin; g < job.group_end; ++g) {
    const QueryGroup& group = job.pass->groups[static_cast<size_t>(g)];
    const int64_t begin = one_group ? job.begin : group.begin;
    const int64_t end = one_group ? job.end : group.end;
    run_rows(run, shared, job, group, {job.pass, begin, end - begin});
  }
}

void ForwardWorker::run_rows(const ForwardRun& run, const SharedLists& shared, const QueryJob& job,
                             const QueryGroup& group, const Rows& rows) {
  load_rows(run, rows);
  if (group.moment_keys > 0) add_moments(group, rows);
  bool linear = false;
  for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
    const Visit& visit = rows.pass->visits[static_cast<size_t>(v)];
    if (!linear && rows.pass->lists[static_cast<size_t>(visit.list)].linear_value) {
      linear = true;
      std::copy_n(maximum_.data(), rows.count, maximum_before_.data());
      std::copy_n(sum_.data(), rows.count, sum_before_.data());
    }
    visit_list(run, shared.find(job.pass_index, visit.list), visit, rows);
  }
  if (linear) add_linear_values(rows);
  store_rows(run, rows);
  book(Stage::gather);
}

float norm(const float* row, int64_t dim) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < dim; ++k) sum += row[k] * row[k];
  return std::sqrt(sum);
}

void ForwardWorker::load_rows(const ForwardRun& run, const Rows& rows) {
  const int64_t dim = run.layout.head_dim;
  const float factor = run.problem.scale * kLog2E;
  const MatrixView<const float> query = run.problem.query.matrix(rows.pass->head);
  const RowOrder& order = rows.pass->queries;
  for (int64_t i = 0; i < rows.count; ++i) {
    if (i + kPrefetchAhead < rows.count) prefetch_row(query.row(order[rows.begin + i + kPrefetchAhead]), dim);
    const float* source = query.row(order[rows.begin + i]);
    float* target = queries_.data() + i * dim;
    for (int64_t k = 0; k < dim; ++k) target[k] = source[k] * factor;
    query_norm_[i] = norm(target, dim);
  }
  const int64_t first_row = rows.pass->head * run.problem.query_count();
  std::fill_n(accumulator_.data(), rows.count * run.layout.value_columns, 0.0F);
  const bool reads_out = run.resumes && run.options.values;
  for (int64_t i = 0; i < rows.count; ++i) {
    if (reads_out && i + kPrefetchAhead < rows.count) prefetch_out(run, rows, i + kPrefetchAhead);
    const int64_t row = order[rows.begin + i];
    maximum_[i] = run.resumes ? run.state->maximum[first_row + row] : kNoScore;
    sum_[i] = run.resumes ? run.state->sum[first_row + row] : 0.0;
    if (run.options.row_normaliser != nullptr)
      maximum_[i] = kLog2E * run.options.row_normaliser[first_row + row];
    if (reads_out)
      std::memcpy(accumulator_.data() + i * run.layout.value_columns,
                  run.result.out.matrix(rows.pass->head).row(row),
                  static_cast<size_t>(run.layout.value_dim) * sizeof(float));
  }
  book(Stage::gather);
}

void ForwardWorker::add_moments(const QueryGroup& group, const Rows& rows) {
  query_terms_.add_moments(*rows.pass->moments, group.moment_keys, states_of(rows));
  book(Stage::sample);
}

void ForwardWorker::add_linear_values(const Rows& rows) {
  query_terms_.add_linear_values(*rows.pass->linear_values, maximum_before_.data(), sum_before_.data(),
                                 states_of(rows));
  book(Stage::sample);
}

/// Natural log-sum-exp from a base-2 maximum and the sum relative to it.
float finish_lse(float maximum, double sum) {
  return sum > 0 ? static_cast<float>((static_cast<double>(maximum) + std::log2(sum)) * std::numbers::ln2)
                 : -kInfinity;
}

void ForwardWorker::store_rows(const ForwardRun& run, const Rows& rows) {
  const int64_t first_row = rows.pass->head * run.problem.query_count();
  const bool given = run.options.row_normaliser != nullptr;
  for (int64_t i = 0; i < rows.count; ++i) {
    if (run.options.values && i + kPrefetchAhead < rows.count) prefetch_out(run, rows, i + kPrefetchAhead);
    const int64_t row = rows.pass->queries[rows.begin + i];
    float factor = 1;
    if (run.state != nullptr) {
      run.state->maximum[first_row + row] = maximum_[i];
      run.state->sum[first_row + row] = sum_[i];
    } else {
      run.result.lse.data()[first_row + row] = finish_lse(maximum_[i], sum_[i]);
      if (!given) factor = sum_[i] > 0 ? static_cast<float>(1.0 / sum_[i]) : 0.0F;
    }
    if (!run.options.values) continue;
    const float* source = accumulator_.data() + i * run.layout.value_columns;
    float* target = run.result.out.matrix(rows.pass->head).row(row);
    for (int64_t c = 0; c < run.layout.value_dim; ++c) target[c] = source[c] * factor;
  }
}

void ForwardWorker::visit_list(const ForwardRun& run, const PackedList* packed, const Visit& visit,
                               const Rows& rows) {
  const KeyList& list = rows.pass->lists[static_cast<size_t>(visit.list)];
  const int64_t last_rank = rows.pass->triangular ? rows.begin + rows.count : visit.end;
  const int64_t end = std::min(visit.end, last_rank);
  const int64_t first = packed != nullptr ? visit.begin / kKeyTile * kKeyTile : visit.begin;
  for (int64_t rank = first; rank < end; rank += kKeyTile) {
    KeyTile tile;
    if (packed != nullptr) {
      tile = packed->tile(rank / kKeyTile);
    } else {
      tile = pack_tile(run.problem, run.layout, rows.pass->head, list, rank,
                       std::min(kKeyTile, visit.end - rank), {keys_.data(), values_.data(), bias_.data()});
      book(Stage::gather);
    }
    if (leaves_out(*rows.pass, visit, tile.first_rank, tile.count)) {
      std::copy_n(tile.bias, tile.columns, masked_bias_.data());
      mask_left_out(*rows.pass, visit, tile.first_rank, tile.count, masked_bias_.data());
      tile.bias = masked_bias_.data();
    }
    attend(run, tile, list, rows);
    book(list.stage);
  }
}

// By Cauchy–Schwarz no score is farther than ‖q‖·‖k‖ from its key's bias. Where that is little, a row's first
// tile needs no search for its maximum either: the largest bias is as good a reference. Rows that may not see
// all keys of the tile get no bound, since nothing of theirs may depend on later keys.
void ForwardWorker::bound_scores(const KeyTile& tile, const Rows& rows, int64_t first, int64_t count) {
  const bool sees_all = !rows.pass->triangular || tile.first_rank + tile.count <= rows.begin + first + 1;
  const float bias_range = tile.largest_bias - tile.smallest_bias;  // negative: no key counts
  for (int64_t i = first; i < first + count; ++i) {
    const float reach = query_norm_[i] * tile.largest_key_norm;
    bound_[i] = sees_all ? tile.largest_bias + reach : kInfinity;
    if (sees_all && maximum_[i] == kNoScore && bias_range >= 0 && reach + bias_range <= kHeadroom)
      maximum_[i] = tile.largest_bias;
  }
}

void ForwardWorker::attend(const ForwardRun& run, const KeyTile& tile, const KeyList& list,
                           const Rows& rows) {
  const TileKernels& kernels = tile_kernels();
  const TileLayout& layout = run.layout;
  const bool triangular = rows.pass->triangular;
  for (int64_t i = 0; i < rows.count; i += kRowGroup) {
    const int64_t count = std::min(kRowGroup, rows.count - i);
    const int64_t position = rows.begin + i;
    int64_t columns = tile.columns;
    if (triangular)
      columns =
          std::min(columns, round_up(std::max<int64_t>(position + count - tile.first_rank, 0), layout.panel));
    if (columns == 0) continue;

    MultiplyArguments score;
    score.rows = count;
    score.columns = columns;
    score.depth = layout.head_dim;
    score.a = queries_.data() + i * layout.head_dim;
    score.a_row = layout.head_dim;
    score.b = tile.keys;
    score.b_panel_stride = layout.panel * layout.head_dim;
    score.c = scores_.data();
    score.c_stride = kKeyTile;
    score.bias = tile.bias;
    score.mode = Accumulate::bias;
    kernels.multiply(score);

    if (triangular && tile.first_rank + columns > position + 1)
      mask_triangle(tile.first_rank, position, count, columns, scores_.data(), kKeyTile);
    if (run.options.score_cap != nullptr) cap_scores(run, list, rows, i, count, columns);

    bound_scores(tile, rows, i, count);
    SoftmaxArguments softmax;
    softmax.rows = count;
    softmax.columns = columns;
    softmax.scores = scores_.data();
    softmax.score_stride = kKeyTile;
    softmax.maximum = maximum_.data() + i;
    softmax.bound = bound_.data() + i;
    softmax.sum = sum_.data() + i;
    softmax.accumulator = layout.value_columns > 0 ? accumulator_.data() + i * layout.value_columns : nullptr;
    softmax.accumulator_stride = layout.value_columns;
    softmax.accumulator_columns = layout.value_columns;
    softmax.fixed = run.options.row_normaliser != nullptr;
    kernels.softmax(softmax);
    for (int64_t r = i; r < i + count; ++r)  // what was masked altogether leaves no reference
      if (sum_[r] == 0 && !softmax.fixed) maximum_[r] = kNoScore;
    if (layout.value_columns == 0) continue;

    MultiplyArguments value;
    value.rows = count;
    value.columns = layout.value_columns;
    value.depth = columns;
    value.a = scores_.data();
    value.a_row = kKeyTile;
    value.b = tile.values;
    value.b_panel_stride = kKeyTile * layout.panel;
    value.c = accumulator_.data() + i * layout.value_columns;
    value.c_stride = layout.value_columns;
    value.mode = Accumulate::add;
    kernels.multiply(value);
  }
}

/// min(s, cap) + log w = min(s + log w, cap + log w): the scores already carry the list's uniform log-weight.
void ForwardWorker::cap_scores(const ForwardRun& run, const KeyList& list, const Rows& rows, int64_t first,
                               int64_t count, int64_t columns) {
  const int64_t first_row = rows.pass->head * run.problem.query_count();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = rows.pass->queries[rows.begin + first + i];
    const float cap = kLog2E * (run.options.score_cap[first_row + row] + list.uniform_log_weight);
    float* scores = scores_.data() + i * kKeyTile;
    for (int64_t j = 0; j < columns; ++j) {
      if (scores[j] <= cap) continue;
      scores[j] = cap;
      ++capped_;
    }
  }
}

void finish_rows(const AttentionProblem& problem, const RunningState& state, bool divide,
                 AttentionResult& result) {
  constexpr int64_t kChunk = 1024;
  const int64_t rows = problem.heads() * problem.query_count();
  const int64_t dim = problem.value_dim();
  parallel_for((rows + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    for (int64_t row = chunk * kChunk; row < std::min(rows, (chunk + 1) * kChunk); ++row) {
      result.lse.data()[row] = finish_lse(state.maximum[row], state.sum[row]);
      if (!divide) continue;
      const float factor = state.sum[row] > 0 ? static_cast<float>(1.0 / state.sum[row]) : 0.0F;
      for (int64_t c = 0; c < dim; ++c) result.out.data()[row * dim + c] *= factor;
    }
  });
}

}  // namespace

AttentionResult run_forward(const AttentionProblem& problem, const Plan& plan, const EngineOptions& options) {
  if (has_query_terms(plan) && (options.row_normaliser != nullptr || options.score_cap != nullptr))
    fail_usage("a plan with moments or linear values has no rows of scores to be normalised or capped");
  const TensorShape& q = problem.query.shape;
  const TileLayout layout(problem, options.values);
  AttentionResult result;
  result.lse = Tensor<float>({q.batch, q.heads, q.rows, 1});
  if (options.values) result.out = Tensor<float>({q.batch, q.heads, q.rows, problem.value_dim()});

  const bool starts_all_rows = !plan.phases.empty() && covers_all_rows(plan.phases[0], problem);
  std::unique_ptr<RunningState> state;
  if (plan.phases.size() != 1 || !starts_all_rows)
    state = std::make_unique<RunningState>(result.lse.shape().size());
  if (!starts_all_rows) parallel_fill(result.out.data(), result.out.shape().size(), 0.0F);
  std::map<std::string, double>& seconds = result.diagnostics.stage_seconds;
  const int workers = thread_count();
  std::vector<std::unique_ptr<ForwardWorker>> scratch(static_cast<size_t>(workers));
  for (const Phase& phase : plan.phases) {
    Stopwatch watch;
    const int64_t tile_rows = query_tile_rows(phase);
    const std::vector<QueryJob> jobs = make_jobs(phase, tile_rows);
    const SharedLists shared(problem, phase, layout, tile_rows);
    seconds[stage_name(Stage::gather)] += watch.seconds();
    const bool resumes = !starts_all_rows || &phase != &plan.phases.front();
    const ForwardRun run{problem, options, layout, result, state.get(), resumes};
    parallel_for(static_cast<int64_t>(jobs.size()), [&](int64_t j, int worker) {
      auto& mine = scratch[static_cast<size_t>(worker)];
      if (!mine) mine = std::make_unique<ForwardWorker>(layout);
      mine->run(run, shared, jobs[static_cast<size_t>(j)]);
    });
  }
  if (options.capped_entries != nullptr) *options.capped_entries = 0;
  for (const auto& worker : scratch) {
    if (!worker) continue;
    for (int s = 0; s < static_cast<int>(Stage::count); ++s)
      if (const double spent = worker->seconds(static_cast<Stage>(s)); spent > 0)
        seconds[stage_name(static_cast<Stage>(s))] += spent / workers;
    if (options.capped_entries != nullptr) *options.capped_entries += worker->capped();
  }
  if (state) {
    Stopwatch watch;
    finish_rows(problem, *state, options.values && options.row_normaliser == nullptr, result);
    seconds[stage_name(Stage::merge)] += watch.seconds();
  }
  result.diagnostics.entries = count_entries(plan);
  return result;
}

}  // namespace hyperattn
