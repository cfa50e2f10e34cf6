// The exact gradient of any plan's forward, in one pass over its entries. With P = exp(s + log w − lse),
// δ_i = ⟨dout_i, out_i⟩ and s = scale·q·k:
//   dV_j += Σ_i P_ij dout_i,   dS_ij = P_ij (⟨dout_i, v_j⟩ − δ_i),   dQ_i += scale Σ_j dS_ij k_j,   dK_j +=
//   scale Σ_i dS_ij q_i.
// See backward_schedule.h for how it is parallel and yet deterministic.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>

#include "algorithms/engines/cpu/backward_schedule.h"
#include "algorithms/engines/cpu/engine.h"
#include "algorithms/engines/cpu/masking.h"
#include "algorithms/kernels/packing.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr int64_t kKeys = 256;  // keys in a tile: K, its transpose, Vᵀ, dK and dV of a tile stay in L2
constexpr int64_t kRows = 64;  // query rows in a tile: long enough a sum that loading dK and dV does not show
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Gradients of a segment's keys and values gathered by rank, a copy per replica.
struct GatheredGradients {
  Buffer<float> keys;
  Buffer<float> values;
};

struct BackwardRun {
  const AttentionProblem& problem;
  const TileLayout& layout;
  TensorView<const float> dout;
  const float* lse2;   ///< per row, +∞ where the row has no keys
  const float* delta;  ///< per row
  AttentionGradients& gradients;
};

/// The rows of one tile and the entries of one visit that it meets.
struct Portion {
  const Pass* pass;
  const Visit* visit;
  int64_t position;  ///< first
  int64_t rows;
  int64_t rank;  ///< first
  int64_t keys;
};

class BackwardWorker {
 public:
  explicit BackwardWorker(const TileLayout& layout)
      : key_columns_(round_up(layout.head_dim, tile_kernels().lanes)),
        keys_transposed_(kKeys * layout.head_dim),
        values_transposed_(kKeys * layout.value_dim),
        keys_(kKeys * key_columns_),
        bias_(kKeys),
        dkeys_(kKeys * key_columns_),
        dvalues_(kKeys * layout.value_columns),
        queries_(kRows * layout.head_dim),
        query_panels_(kRows * key_columns_),
        dout_panels_(kRows * layout.value_columns),
        dout_(kRows * layout.value_dim),
        dqueries_(kRows * key_columns_),
        scores_(kRows * kKeys),
        dscores_(kRows * kKeys),
        lse2_(kRows),
        delta_(kRows) {}

  void run(const BackwardRun& run, const BackwardTask& task, GatheredGradients* gathered);
  [[nodiscard]] double seconds(Stage stage) const { return seconds_[static_cast<size_t>(stage)]; }

 private:
  void run_visit(const BackwardRun& run, const BackwardTask& task, const Portion& portion,
                 GatheredGradients* gathered);
  void load_keys(const BackwardRun& run, const KeyList& list, const Portion& tile);
  void load_rows(const BackwardRun& run, const Portion& tile);
  void compute(const BackwardRun& run, const Portion& tile);
  void store_rows(const BackwardRun& run, const Portion& tile);
  void store_keys(const BackwardRun& run, const BackwardTask& task, const Portion& tile,
                  GatheredGradients* gathered);
  void book(Stage stage) {
    seconds_[static_cast<size_t>(stage)] += watch_.seconds();
    watch_.restart();
  }

  int64_t key_columns_;  // head_dim rounded up to vectors
  Buffer<float> keys_transposed_;
  Buffer<float> values_transposed_;
  Buffer<float> keys_;
  Buffer<float> bias_;
  Buffer<float> dkeys_;
  Buffer<float> dvalues_;
  Buffer<float> queries_;
  Buffer<float> query_panels_;
  Buffer<float> dout_panels_;
  Buffer<float> dout_;
  Buffer<float> dqueries_;
  Buffer<float> scores_;
  Buffer<float> dscores_;
  Buffer<float> lse2_;
  Buffer<float> delta_;
  std::array<const float*, kKeys> row_pointers_{};
  std::array<double, static_cast<size_t>(Stage::count)> seconds_{};
  Stopwatch watch_;
};

void BackwardWorker::run(const BackwardRun& run, const BackwardTask& task, GatheredGradients* gathered) {
  watch_.restart();
  const KeySegment& segment = *task.segment;
  const Pass& pass = *segment.pass;
  const ChunkRange rows = chunk_range(pass.queries.count, segment.query_chunks, task.query_chunk);
  const ChunkRange keys = chunk_range(segment.count, segment.key_chunks, task.key_chunk);
  const auto first_group = std::partition_point(pass.groups.begin(), pass.groups.end(),
                                                [&](const QueryGroup& g) { return g.end <= rows.begin; });
  for (auto group = first_group; group != pass.groups.end() && group->begin < rows.end; ++group) {
    const int64_t begin = std::max(group->begin, rows.begin);
    const int64_t end = std::min(group->end, rows.end);
    for (int64_t v = group->first_visit; v < group->last_visit; ++v) {
      const Visit& visit = pass.visits[static_cast<size_t>(v)];
      if (visit.list != segment.list) continue;
      const int64_t rank = std::max(visit.begin, segment.first + keys.begin);
      const int64_t last = std::min(visit.end, segment.first + keys.end);
      if (rank < last) run_visit(run, task, {&pass, &visit, begin, end - begin, rank, last - rank}, gathered);
    }
  }
}

void BackwardWorker::run_visit(const BackwardRun& run, const BackwardTask& task, const Portion& portion,
                               GatheredGradients* gathered) {
  const KeyList& list = portion.pass->lists[static_cast<size_t>(portion.visit->list)];
  const int64_t last_row = portion.position + portion.rows;
  const int64_t last_rank = portion.rank + portion.keys;
  for (int64_t rank = portion.rank; rank < last_rank; rank += kKeys) {
    if (portion.pass->triangular && rank >= last_row) break;
    Portion tile = portion;
    tile.rank = rank;
    tile.keys = std::min(kKeys, last_rank - rank);
    load_keys(run, list, tile);
    for (tile.position = portion.position; tile.position < last_row; tile.position += kRows) {
      tile.rows = std::min(kRows, last_row - tile.position);
      if (tile.pass->triangular && rank >= tile.position + tile.rows) continue;
      load_rows(run, tile);
      book(Stage::gather);
      compute(run, tile);
      book(list.stage);
      store_rows(run, tile);
    }
    store_keys(run, task, tile, gathered);
    book(Stage::gather);
  }
}

void BackwardWorker::load_keys(const BackwardRun& run, const KeyList& list, const Portion& tile) {
  const TileLayout& layout = run.layout;
  const int64_t columns = round_up(tile.keys, layout.panel);
  for (int64_t j = 0; j < tile.keys; ++j)
    row_pointers_[static_cast<size_t>(j)] = value_row(run.problem, tile.pass->head, list, tile.rank + j);
  pack_transposed(row_pointers_.data(), tile.keys, layout.value_dim, columns, layout.panel,
                  values_transposed_.data());
  for (int64_t j = 0; j < tile.keys; ++j)
    row_pointers_[static_cast<size_t>(j)] = key_row(run.problem, tile.pass->head, list, tile.rank + j);
  pack_transposed(row_pointers_.data(), tile.keys, layout.head_dim, columns, layout.panel,
                  keys_transposed_.data());
  pack_rows(row_pointers_.data(), tile.keys, layout.head_dim, key_columns_, layout.panel, kKeys,
            keys_.data());
  fill_bias(list, tile.rank, tile.keys, columns, bias_.data());
  mask_left_out(*tile.pass, *tile.visit, tile.rank, tile.keys, bias_.data());
  std::fill_n(dkeys_.data(), tile.keys * key_columns_, 0.0F);
  std::fill_n(dvalues_.data(), tile.keys * layout.value_columns, 0.0F);
}

void BackwardWorker::load_rows(const BackwardRun& run, const Portion& tile) {
  const TileLayout& layout = run.layout;
  const int64_t first_row = tile.pass->head * run.problem.query_count();
  const MatrixView<const float> query = run.problem.query.matrix(tile.pass->head);
  const MatrixView<const float> dout = run.dout.matrix(tile.pass->head);
  const float factor = run.problem.scale * kLog2E;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t row = tile.pass->queries[tile.position + i];
    const float* source = query.row(row);
    float* target = queries_.data() + i * layout.head_dim;
    for (int64_t k = 0; k < layout.head_dim; ++k) target[k] = source[k] * factor;
    std::copy_n(dout.row(row), layout.value_dim, dout_.data() + i * layout.value_dim);
    lse2_[i] = run.lse2[first_row + row];
    delta_[i] = run.delta[first_row + row];
  }
  for (int64_t i = 0; i < tile.rows; ++i)
    row_pointers_[static_cast<size_t>(i)] = queries_.data() + i * layout.head_dim;
  pack_rows(row_pointers_.data(), tile.rows, layout.head_dim, key_columns_, layout.panel, kRows,
            query_panels_.data());
  for (int64_t i = 0; i < tile.rows; ++i)
    row_pointers_[static_cast<size_t>(i)] = dout_.data() + i * layout.value_dim;
  pack_rows(row_pointers_.data(), tile.rows, layout.value_dim, layout.value_columns, layout.panel, kRows,
            dout_panels_.data());
}

void BackwardWorker::compute(const BackwardRun& run, const Portion& tile) {
  const TileKernels& kernels = tile_kernels();
  const TileLayout& layout = run.layout;
  const int64_t columns = round_up(tile.keys, layout.panel);

  MultiplyArguments score;
  score.rows = tile.rows;
  score.columns = columns;
  score.depth = layout.head_dim;
  score.a = queries_.data();
  score.a_row = layout.head_dim;
  score.b = keys_transposed_.data();
  score.b_panel_stride = layout.panel * layout.head_dim;
  score.c = scores_.data();
  score.c_stride = kKeys;
  score.bias = bias_.data();
  score.mode = Accumulate::bias;
  kernels.multiply(score);
  if (tile.pass->triangular && tile.rank + columns > tile.position + 1)
    mask_triangle(tile.rank, tile.position, tile.rows, columns, scores_.data(), kKeys);

  MultiplyArguments dweight = score;  // ⟨dout_i, v_j⟩
  dweight.depth = layout.value_dim;
  dweight.a = dout_.data();
  dweight.a_row = layout.value_dim;
  dweight.b = values_transposed_.data();
  dweight.b_panel_stride = layout.panel * layout.value_dim;
  dweight.c = dscores_.data();
  dweight.mode = Accumulate::overwrite;
  dweight.bias = nullptr;
  kernels.multiply(dweight);

  GradientArguments gradient;
  gradient.rows = tile.rows;
  gradient.columns = columns;
  gradient.scores = scores_.data();
  gradient.gradients = dscores_.data();
  gradient.stride = kKeys;
  gradient.lse2 = lse2_.data();
  gradient.delta = delta_.data();
  kernels.gradient(gradient);

  MultiplyArguments dquery;
  dquery.rows = tile.rows;
  dquery.columns = key_columns_;
  dquery.depth = tile.keys;
  dquery.a = dscores_.data();
  dquery.a_row = kKeys;
  dquery.b = keys_.data();
  dquery.b_panel_stride = kKeys * layout.panel;
  dquery.c = dqueries_.data();
  dquery.c_stride = key_columns_;
  kernels.multiply(dquery);

  MultiplyArguments dvalue;
  dvalue.rows = tile.keys;
  dvalue.columns = layout.value_columns;
  dvalue.depth = tile.rows;
  dvalue.a = scores_.data();
  dvalue.a_row = 1;
  dvalue.a_step = kKeys;
  dvalue.b = dout_panels_.data();
  dvalue.b_panel_stride = kRows * layout.panel;
  dvalue.c = dvalues_.data();
  dvalue.c_stride = layout.value_columns;
  dvalue.mode = Accumulate::add;
  kernels.multiply(dvalue);

  MultiplyArguments dkey = dvalue;
  dkey.columns = key_columns_;
  dkey.a = dscores_.data();
  dkey.b = query_panels_.data();
  dkey.c = dkeys_.data();
  dkey.c_stride = key_columns_;
  kernels.multiply(dkey);
}

void add_scaled(const float* source, float factor, int64_t count, float* target) {
  for (int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
}

void BackwardWorker::store_rows(const BackwardRun& run, const Portion& tile) {
  const MatrixView<float> dquery = run.gradients.dquery.matrix(tile.pass->head);
  for (int64_t i = 0; i < tile.rows; ++i)
    add_scaled(dqueries_.data() + i * key_columns_, run.problem.scale, run.layout.head_dim,
               dquery.row(tile.pass->queries[tile.position + i]));
}

void BackwardWorker::store_keys(const BackwardRun& run, const BackwardTask& task, const Portion& tile,
                                GatheredGradients* gathered) {
  const TileLayout& layout = run.layout;
  const KeySegment& segment = *task.segment;
  const KeyList& list = tile.pass->lists[static_cast<size_t>(segment.list)];
  // The packed queries carry scale·log₂e; the gradient wants the scale alone.
  const auto key_factor = static_cast<float>(std::numbers::ln2);
  const int64_t replica = segment.replicas > 1 ? task.query_chunk : 0;
  for (int64_t j = 0; j < tile.keys; ++j) {
    const int64_t slot = replica * segment.count + tile.rank + j - segment.first;
    float* dkey = segment.direct ? run.gradients.dkey.matrix(tile.pass->head).row(list.order[tile.rank + j])
                                 : gathered->keys.data() + slot * layout.head_dim;
    float* dvalue = segment.direct
                        ? run.gradients.dvalue.matrix(tile.pass->head).row(list.order[tile.rank + j])
                        : gathered->values.data() + slot * layout.value_dim;
    add_scaled(dkeys_.data() + j * key_columns_, key_factor, layout.head_dim, dkey);
    add_scaled(dvalues_.data() + j * layout.value_columns, 1.0F, layout.value_dim, dvalue);
  }
}

/// Adds the gathered gradient of one rank, replicas in order, to the row or the members that stand behind it.
void scatter_rank(const BackwardRun& run, const KeySegment& segment, GatheredGradients& gathered,
                  int64_t index) {
  const int64_t dim = run.layout.head_dim;
  const int64_t value_dim = run.layout.value_dim;
  float* dkey = gathered.keys.data() + index * dim;
  float* dvalue = gathered.values.data() + index * value_dim;
  for (int64_t r = 1; r < segment.replicas; ++r) {
    add_scaled(dkey + r * segment.count * dim, 1.0F, dim, dkey);
    add_scaled(dvalue + r * segment.count * value_dim, 1.0F, value_dim, dvalue);
  }
  const KeyList& list = segment.pass->lists[static_cast<size_t>(segment.list)];
  const int64_t row = list.order[segment.first + index];
  const MatrixView<float> all_dkeys = run.gradients.dkey.matrix(segment.pass->head);
  const MatrixView<float> all_dvalues = run.gradients.dvalue.matrix(segment.pass->head);
  if (!list.synthetic) {
    add_scaled(dkey, 1.0F, dim, all_dkeys.row(row));
    add_scaled(dvalue, 1.0F, value_dim, all_dvalues.row(row));
    return;
  }
  const SyntheticKeys& synthetic = *list.synthetic;
  const int64_t begin = synthetic.member_begin[static_cast<size_t>(row)];
  const int64_t end = synthetic.member_begin[static_cast<size_t>(row) + 1];
  for (int64_t member = begin; member < end; ++member) {
    const float share = synthetic.share(row, member);
    add_scaled(dkey, share, dim, all_dkeys.row(synthetic.member_order[member]));
    add_scaled(dvalue, share, value_dim, all_dvalues.row(synthetic.member_order[member]));
  }
}

class BackwardPass {
 public:
  BackwardPass(const BackwardRun& run, const AttentionProblem& problem)
      : run_(run), problem_(problem), workers_(static_cast<size_t>(thread_count())) {}

  void run_plan(const Plan& plan) {
    for (const Phase& phase : plan.phases) {
      size_t lists = 0;
      for (const Pass& pass : phase.passes) lists = std::max(lists, pass.lists.size());
      for (size_t list = 0; list < lists; ++list) run_list(phase, static_cast<int64_t>(list));
    }
  }

  void book(std::map<std::string, double>& seconds) const {
    for (const auto& worker : workers_)
      for (int s = 0; worker && s < static_cast<int>(Stage::count); ++s)
        if (const double spent = worker->seconds(static_cast<Stage>(s)); spent > 0)
          seconds[stage_name(static_cast<Stage>(s))] += spent / static_cast<double>(workers_.size());
    seconds[stage_name(Stage::merge)] += merge_seconds_;
  }

 private:
  /// Pieces of one list share query rows, so piece k of every pass runs before piece k + 1 of any.
  void run_list(const Phase& phase, int64_t list) {
    const std::vector<KeySegment> all = make_segments(phase, list, problem_.key_count());
    for (int64_t piece = 0;; ++piece) {
      std::vector<KeySegment> segments;
      for (const KeySegment& segment : all)
        if (segment.piece == piece) segments.push_back(segment);
      if (segments.empty()) return;
      run_segments(segments);
    }
  }

  void run_segments(const std::vector<KeySegment>& segments) {
    std::vector<GatheredGradients> gathered(segments.size());
    for (size_t s = 0; s < segments.size(); ++s) {
      if (segments[s].direct) continue;
      const int64_t slots = segments[s].replicas * segments[s].count;
      gathered[s].keys = Buffer<float>(slots * run_.layout.head_dim);
      gathered[s].values = Buffer<float>(slots * run_.layout.value_dim);
      parallel_fill(gathered[s].keys.data(), gathered[s].keys.size(), 0.0F);
      parallel_fill(gathered[s].values.data(), gathered[s].values.size(), 0.0F);
    }
    for (const std::vector<BackwardTask>& step : make_steps(segments)) {
      parallel_for(static_cast<int64_t>(step.size()), [&](int64_t t, int worker) {
        auto& mine = workers_[static_cast<size_t>(worker)];
        if (!mine) mine = std::make_unique<BackwardWorker>(run_.layout);
        const BackwardTask& task = step[static_cast<size_t>(t)];
        mine->run(run_, task, &gathered[static_cast<size_t>(task.segment - segments.data())]);
      });
    }
    const Stopwatch watch;
    parallel_for(static_cast<int64_t>(segments.size()), [&](int64_t s, int) {
      const KeySegment& segment = segments[static_cast<size_t>(s)];
      for (int64_t i = 0; !segment.direct && i < segment.count; ++i)
        scatter_rank(run_, segment, gathered[static_cast<size_t>(s)], i);
    });
    merge_seconds_ += watch.seconds();
  }

  const BackwardRun& run_;
  const AttentionProblem& problem_;
  std::vector<std::unique_ptr<BackwardWorker>> workers_;
  double merge_seconds_ = 0;
};

/// lse in base 2 (+∞ for a row without keys, whose weights are then 0) and δ, per row.
void prepare_rows(const AttentionResult& forward, TensorView<const float> dout, Buffer<float>& lse2,
                  Buffer<float>& delta) {
  const int64_t dim = dout.shape.dim;
  constexpr int64_t kChunk = 1024;
  const int64_t rows = lse2.size();
  parallel_for((rows + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    for (int64_t i = chunk * kChunk; i < std::min(rows, (chunk + 1) * kChunk); ++i) {
      const float lse = forward.lse.data()[i];
      lse2[i] = lse == -kInfinity ? kInfinity : lse * kLog2E;
      double sum = 0;
      for (int64_t c = 0; c < dim; ++c)
        sum += static_cast<double>(dout.data[i * dim + c]) *
               static_cast<double>(forward.out.data()[i * dim + c]);
      delta[i] = static_cast<float>(sum);
    }
  });
}

Tensor<float> zeros(const TensorShape& shape) {
  Tensor<float> tensor(shape);
  parallel_fill(tensor.data(), shape.size(), 0.0F);
  return tensor;
}

}  // namespace

AttentionGradients run_backward(const AttentionProblem& problem, const Plan& plan,
                                const AttentionResult& forward, TensorView<const float> dout) {
  if (!(dout.shape == forward.out.shape()))
    fail_input("dout must have the shape of out, " + to_string(forward.out.shape()) + ", but is " +
               to_string(dout.shape));
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
  const Stopwatch total;
  AttentionGradients gradients{
      zeros(problem.query.shape), zeros(problem.key.shape), zeros(problem.value.shape), {}};
  const TileLayout layout(problem, true);
  Buffer<float> lse2(forward.lse.shape().size());
  Buffer<float> delta(forward.lse.shape().size());
  prepare_rows(forward, dout, lse2, delta);
  const double prepared = total.seconds();

  const BackwardRun run{problem, layout, dout, lse2.data(), delta.data(), gradients};
  BackwardPass pass(run, problem);
  pass.run_plan(plan);
  std::map<std::string, double>& seconds = gradients.diagnostics.stage_seconds;
  pass.book(seconds);
  seconds[stage_name(Stage::gather)] += prepared;
  gradients.diagnostics.entries = count_entries(plan);
  return gradients;
}

}  // namespace hyperattn
