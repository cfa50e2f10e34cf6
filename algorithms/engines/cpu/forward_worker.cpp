#include "algorithms/engines/cpu/forward_worker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "algorithms/engines/cpu/masking.h"
#include "algorithms/kernels/bfloat16.h"
#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float norm(const float* row, int64_t dim) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < dim; ++k) sum += row[k] * row[k];
  return std::sqrt(sum);
}

[[gnu::always_inline]] inline void prefetch_out(const ForwardRun& run, const Pass& pass, int64_t position) {
  prefetch_row(run.result.out.matrix(pass.head).row(pass.queries[position]), run.layout.value_dim);
}

/// Rows that the next job gathers, asked for in between two kernels: `hyper` at n = 131072 takes 188 ms on
/// one thread in place of 196 (Zen 4), with 12 as with 24. The 11 groups of a tile ask for 792 rows, all that
/// a job has.
constexpr int64_t kRowsAhead = 24;

/// Entries and keys of visits to come: what one tile of rows reads of them is too little for the processor to
/// see a stream. `tree` at n = 65536 took 454, 446 and 459 ms with 1, 2 and 4, where equal runs differed by
/// more (d = 64, Zen 4, one thread).
constexpr int64_t kVisitsAhead = 2;
constexpr int64_t kEntriesOfLine = 8;

void prefetch_visit(const ForwardRun& run, const SharedTables& shared, const QueryJob& job, int64_t visit) {
  const RowEntry* entries = job.pass->row_entries.data();
  const auto [first, last] = shared.entries.find(job, visit + kVisitsAhead);
  for (int64_t e = first; e < last + kEntriesOfLine - 1; e += kEntriesOfLine) __builtin_prefetch(entries + e);
  const RowVisit& next = job.pass->row_visits[static_cast<size_t>(visit + 1)];
  shared.lists.find_segments(job.pass_index, next.list)->prefetch(run.layout, next.segment);
}

int64_t row_group(const TileLayout& layout) {
  return layout.pairs == nullptr ? kRowGroup : layout.pairs->row_group;
}

/// Rows that kernels read and write where a tile has `rows` of them.
int64_t padded_rows(const TileLayout& layout, int64_t rows) {
  return layout.pairs == nullptr ? rows : round_up(rows, layout.pairs->row_step);
}

/// A row whose given sum is 0 gives 0, whatever its scores.
float given_reference(const RowSums& denominators, int64_t row) {
  return denominators.sum.data()[row] > 0 ? denominators.maximum.data()[row] : kInfinity;
}

}  // namespace

ForwardWorker::ForwardWorker(const TileLayout& layout, int64_t rows)
    : queries_(rows * layout.head_dim),
      words_(layout.pairs == nullptr ? 0 : padded_rows(layout, rows) * layout.head_words()),
      accumulator_(padded_rows(layout, rows) * layout.value_columns),
      scores_(row_group(layout) * kKeyTile),
      keys_(layout.key_tile_floats()),
      values_(layout.value_tile_floats()),
      bias_(kKeyTile),
      masked_bias_(kKeyTile),
      query_norm_(rows),
      bound_(rows),
      maximum_(rows),
      sum_(rows),
      absolute_(rows),
      maximum_before_(rows),
      sum_before_(rows),
      denominator_(kKeyTile),
      rank_factor_(kKeyTile),
      cap_(rows),
      query_terms_(layout) {}

void ForwardWorker::run(const ForwardRun& run, const SharedTables& shared, const QueryJob& job,
                        const QueryJob* next) {
  watch_.restart();
  ahead_.begin(run.problem, run.layout, shared.lists, next);
  const PairKernels* pairs = run.layout.pairs;
  if (pairs != nullptr) pairs->begin();
  for (int64_t g = job.group_begin; g < job.group_end; ++g) {
    const QueryGroup& group = job.pass->groups[static_cast<size_t>(g)];
    const auto [begin, end] = job.positions_of(group);
    run_rows(run, shared, job, group, {job.pass, begin, end - begin});
  }
  if (pairs != nullptr) pairs->end();
}

void ForwardWorker::run_rows(const ForwardRun& run, const SharedTables& shared, const QueryJob& job,
                             const QueryGroup& group, const Rows& rows) {
  load_rows(run, rows);
  Stage stage = Stage::gather;  // of the time that is not booked yet
  if (group.moment_keys > 0) add_moments(group, rows);
  bool linear = false;
  const auto meet_list = [&](int32_t list) {
    if (linear || !rows.pass->lists[static_cast<size_t>(list)].linear_value) return;
    linear = true;
    note_before_linear(rows);
  };
  for_each_visit(*rows.pass, group, [&](const Visit& visit) {
    meet_list(visit.list);
    visit_list(run, shared.lists.find(job.pass_index, visit.list), visit, rows);
  });
  for (int64_t v = group.first_row_visit; v < group.last_row_visit; ++v) {
    const RowVisit& visit = rows.pass->row_visits[static_cast<size_t>(v)];
    const KeyList& list = rows.pass->lists[static_cast<size_t>(visit.list)];
    if (list.stage != stage) book(stage);
    stage = list.stage;
    meet_list(visit.list);
    const auto [first, last] = shared.entries.find(job, v);
    if (v + kVisitsAhead < group.last_row_visit) prefetch_visit(run, shared, job, v);
    if (first < last)
      visit_segment(run, *shared.lists.find_segments(job.pass_index, visit.list), visit,
                    rows.pass->row_entries.data() + first, last - first, rows);
  }
  book(stage);
  if (linear) add_linear_values(rows);
  store_rows(run, rows);
  book(Stage::gather);
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
    if (run.layout.pairs != nullptr)
      run.layout.pairs->round_row(source, dim, words_.data() + i * run.layout.head_words(),
                                  run.layout.head_words());
  }
  const int64_t first_row = rows.pass->head * run.problem.query_count();
  std::fill_n(accumulator_.data(), rows.count * run.layout.value_columns, 0.0F);
  const bool reads_out = run.resumes && run.options.values;
  for (int64_t i = 0; i < rows.count; ++i) {
    if (reads_out && i + kPrefetchAhead < rows.count)
      prefetch_out(run, *rows.pass, rows.begin + i + kPrefetchAhead);
    const int64_t row = order[rows.begin + i];
    maximum_[i] = run.resumes ? run.result.sums.maximum.data()[first_row + row] : kNoScore;
    sum_[i] = run.resumes ? run.result.sums.sum.data()[first_row + row] : 0.0;
    absolute_[i] = run.resumes && !run.absolute.empty() ? run.absolute[first_row + row] : 0.0;
    if (run.options.score_cap != nullptr) cap_[i] = kLog2E * run.options.score_cap[first_row + row];
    if (run.options.denominators != nullptr)
      maximum_[i] = given_reference(*run.options.denominators, first_row + row);
    if (reads_out)
      std::memcpy(accumulator_.data() + i * run.layout.value_columns,
                  run.result.out.matrix(rows.pass->head).row(row),
                  static_cast<size_t>(run.layout.value_dim) * sizeof(float));
  }
  book(Stage::gather);
}

void ForwardWorker::store_rows(const ForwardRun& run, const Rows& rows) {
  const int64_t first_row = rows.pass->head * run.problem.query_count();
  for (int64_t i = 0; i < rows.count; ++i) {
    if (run.options.values && i + kPrefetchAhead < rows.count)
      prefetch_out(run, *rows.pass, rows.begin + i + kPrefetchAhead);
    const int64_t row = rows.pass->queries[rows.begin + i];
    float factor = 1;
    if (run.finishes) {
      const FinishedRow finished = finish_row(run, first_row + row, maximum_[i], sum_[i], absolute_[i]);
      run.result.lse.data()[first_row + row] = finished.lse;
      factor = finished.factor;
      if (finished.guarded) {
        sum_[i] = 0;
        ++guarded_;
      }
    } else if (!run.absolute.empty()) {
      run.absolute[first_row + row] = absolute_[i];
    }
    run.result.sums.maximum.data()[first_row + row] = maximum_[i];
    run.result.sums.sum.data()[first_row + row] = sum_[i];
    if (!run.options.values) continue;
    const float* source = accumulator_.data() + i * run.layout.value_columns;
    float* target = run.result.out.matrix(rows.pass->head).row(row);
    for (int64_t c = 0; c < run.layout.value_dim; ++c) target[c] = source[c] * factor;
  }
}

void ForwardWorker::add_moments(const QueryGroup& group, const Rows& rows) {
  query_terms_.add_moments(*rows.pass->moments, group.moment_keys,
                           {rows.count, queries_.data(), maximum_.data(), sum_.data(), accumulator_.data()});
  book(Stage::sample);
}

void ForwardWorker::note_before_linear(const Rows& rows) {
  std::copy_n(maximum_.data(), rows.count, maximum_before_.data());
  std::copy_n(sum_.data(), rows.count, sum_before_.data());
}

void ForwardWorker::add_linear_values(const Rows& rows) {
  query_terms_.add_linear_values(
      *rows.pass->linear_values, maximum_before_.data(), sum_before_.data(),
      {rows.count, queries_.data(), maximum_.data(), sum_.data(), accumulator_.data()});
  book(Stage::sample);
}

void ForwardWorker::visit_list(const ForwardRun& run, const PackedList* packed, const Visit& visit,
                               const Rows& rows) {
  const Pass& pass = *rows.pass;
  const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
  const auto [begin, end] = visible_ranks(pass, visit, rows.begin, rows.begin + rows.count);
  const int64_t first = packed != nullptr ? begin / kKeyTile * kKeyTile : begin;
  for (int64_t rank = first; rank < end; rank += kKeyTile) {
    KeyTile tile;
    if (packed != nullptr) {
      tile = packed->tile(rank / kKeyTile);
    } else {
      tile = pack_tile(run.problem, run.layout, pass.key_head, list, rank,
                       std::min(kKeyTile, visit.end - rank), {keys_.data(), values_.data(), bias_.data()});
      book(Stage::gather);
    }
    if (leaves_out(pass, visit, tile.first_rank, tile.count)) {
      std::copy_n(tile.bias, tile.columns, masked_bias_.data());
      mask_left_out(pass, visit, tile.first_rank, tile.count, masked_bias_.data());
      tile.bias = masked_bias_.data();
    }
    attend(run, tile, list, rows);
    book(list.stage);
  }
}

// By Cauchy–Schwarz no score is farther than ‖q‖·‖k‖ from its key's bias. Where that is little, a row's first
// tile needs no search for its maximum either: the largest bias is as good a reference. A row that may not
// see all keys of the tile gets no bound, since nothing of it may depend on later keys.
void ForwardWorker::bound_scores(const KeyTile& tile, const Rows& rows, int64_t first, int64_t count) {
  const Pass& pass = *rows.pass;
  const float bias_range = tile.largest_bias - tile.smallest_bias;  // negative: no key counts
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t position = rows.begin + i;
    const bool sees_all = !pass.triangular || (tile.first_rank + tile.count <= pass.last_visible(position) &&
                                               pass.first_visible(position) <= tile.first_rank);
    const float reach = query_norm_[i] * tile.largest_key_norm;
    bound_[i] = sees_all ? tile.largest_bias + reach : kInfinity;
    if (sees_all && maximum_[i] == kNoScore && bias_range >= 0 && reach + bias_range <= kHeadroom)
      maximum_[i] = tile.largest_bias;
  }
}

void ForwardWorker::attend(const ForwardRun& run, const KeyTile& tile, const KeyList& list,
                           const Rows& rows) {
  const Pass& pass = *rows.pass;
  load_weights(tile, list);
  const int64_t group = row_group(run.layout);
  for (int64_t i = 0; i < rows.count; i += group) {
    const int64_t count = std::min(group, rows.count - i);
    int64_t columns = tile.columns;
    if (pass.triangular) {
      const int64_t visible = pass.last_visible(rows.begin + i + count - 1) - tile.first_rank;
      columns = std::min(columns, round_up(std::max<int64_t>(visible, 0), run.layout.panel));
    }
    if (columns == 0) continue;
    ahead_.ask(kRowsAhead);
    multiply_scores(run, tile, i, count, columns);
    ahead_.ask(kRowsAhead);
    if (pass.triangular) mask_triangle(rows, tile, i, count, columns);
    if (run.options.score_cap != nullptr) cap_scores(tile, i, count, columns);
    bound_scores(tile, rows, i, count);
    float* accumulator = accumulator_.data() + i * run.layout.value_columns;
    const float* row_factor = list.has_factor() ? list.factor.row->data() + rows.begin + i : nullptr;
    softmax(run, list, count, columns,
            {maximum_.data() + i, sum_.data() + i, absolute_.data() + i, accumulator}, bound_.data() + i,
            row_factor);
    ahead_.ask(kRowsAhead);
    multiply_values(run, tile, count, columns, accumulator);
  }
}

void ForwardWorker::mask_triangle(const Rows& rows, const KeyTile& tile, int64_t first, int64_t count,
                                  int64_t columns) {
  hyperattn::mask_triangle(*rows.pass, tile.first_rank, rows.begin + first, count, columns, scores_.data(),
                           kKeyTile);
}

/// min(s, cap) + log w = min(s + log w, cap + log w): the scores already carry their keys' log-weights.
void ForwardWorker::cap_scores(const KeyTile& tile, int64_t first, int64_t count, int64_t columns) {
  for (int64_t i = 0; i < count; ++i) {
    const float cap = cap_[first + i];
    float* scores = scores_.data() + i * kKeyTile;
    for (int64_t j = 0; j < columns; ++j) {
      const float limit = cap + tile.bias[j];
      if (!(scores[j] > limit)) continue;
      scores[j] = limit;
      ++capped_;
    }
  }
}

/// The factors and denominators of a tile's keys; numerators are in its packed values.
void ForwardWorker::load_weights(const KeyTile& tile, const KeyList& list) {
  if (list.has_factor())
    load_numbers(*list.factor.rank, tile.first_rank, tile.count, tile.columns, rank_factor_.data());
  if (list.signed_weights)
    load_numbers(list.signed_weights->denominator, tile.first_rank, tile.count, tile.columns,
                 denominator_.data());
}

void ForwardWorker::multiply_scores(const ForwardRun& run, const KeyTile& tile, int64_t first, int64_t rows,
                                    int64_t columns) {
  const TileLayout& layout = run.layout;
  if (layout.pairs != nullptr) {
    PairMultiplyArguments score;
    score.rows = rows;
    score.columns = columns;
    score.depth = layout.head_words();
    score.a = words_.data() + first * layout.head_words();
    score.a_row = layout.head_words();
    score.b = words_of(tile.keys);
    score.b_panel_stride = layout.panel * layout.head_words();
    score.c = scores_.data();
    score.c_stride = kKeyTile;
    score.bias = tile.bias;
    score.factor = run.problem.scale * kLog2E;
    layout.pairs->multiply(score);
    return;
  }
  MultiplyArguments score;
  score.rows = rows;
  score.columns = columns;
  score.depth = layout.head_dim;
  score.a = queries_.data() + first * layout.head_dim;
  score.a_row = layout.head_dim;
  score.b = tile.keys;
  score.b_panel_stride = layout.panel * layout.head_dim;
  score.c = scores_.data();
  score.c_stride = kKeyTile;
  score.bias = tile.bias;
  score.mode = Accumulate::bias;
  tile_kernels().multiply(score);
}

void ForwardWorker::softmax(const ForwardRun& run, const KeyList& list, int64_t rows, int64_t columns,
                            const State& state, const float* bound, const float* row_factor) {
  const TileLayout& layout = run.layout;
  SoftmaxArguments softmax;
  softmax.rows = rows;
  softmax.columns = columns;
  softmax.scores = scores_.data();
  softmax.score_stride = kKeyTile;
  softmax.maximum = state.maximum;
  softmax.bound = bound;
  softmax.sum = state.sum;
  softmax.accumulator = layout.value_columns > 0 ? state.accumulator : nullptr;
  softmax.accumulator_stride = layout.value_columns;
  softmax.accumulator_columns = layout.value_columns;
  softmax.fixed = run.options.denominators != nullptr;
  const bool is_signed = !run.absolute.empty();
  const bool is_weighted = is_signed || row_factor != nullptr;
  if (is_weighted) {
    WeightArguments weights;
    weights.row_factor = row_factor;
    weights.rank_factor = rank_factor_.data();
    if (list.signed_weights) weights.denominator = denominator_.data();
    if (is_signed) weights.absolute = state.absolute;
    tile_kernels().weighted_softmax(softmax, weights);
  } else if (layout.pairs != nullptr) {
    tile_kernels().raise_references(softmax);
    layout.pairs->weigh(softmax);
  } else {
    tile_kernels().softmax(softmax);
  }
  if (is_weighted || layout.is_rounded) round_weights(layout, rows, columns);
  const double* summed = is_signed ? state.absolute : state.sum;
  for (int64_t r = 0; r < rows && !softmax.fixed; ++r)  // what was masked altogether leaves no reference
    if (summed[r] == 0) state.maximum[r] = kNoScore;
}

/// Weights as they multiply values: floats, floats that hold bfloat16, or words.
void ForwardWorker::round_weights(const TileLayout& layout, int64_t rows, int64_t columns) {
  if (layout.pairs != nullptr) layout.pairs->round_weights(scores_.data(), kKeyTile, rows, columns);
  for (int64_t r = 0; r < rows && layout.is_rounded; ++r)
    round_to_bfloat16(scores_.data() + r * kKeyTile, columns, scores_.data() + r * kKeyTile);
}

void ForwardWorker::multiply_values(const ForwardRun& run, const KeyTile& tile, int64_t rows, int64_t columns,
                                    float* accumulator) {
  const TileLayout& layout = run.layout;
  if (layout.value_columns == 0) return;
  if (layout.pairs != nullptr) {
    PairMultiplyArguments value;
    value.rows = rows;
    value.columns = layout.value_columns;
    value.depth = round_up(columns / 2, layout.pairs->depth_step);
    value.a = words_of(scores_.data());
    value.a_row = kKeyTile;
    value.b = words_of(tile.values);
    value.b_panel_stride = layout.value_rows() * layout.panel;
    value.c = accumulator;
    value.c_stride = layout.value_columns;
    layout.pairs->multiply(value);
    return;
  }
  MultiplyArguments value;
  value.rows = rows;
  value.columns = layout.value_columns;
  value.depth = columns;
  value.a = scores_.data();
  value.a_row = kKeyTile;
  value.b = tile.values;
  value.b_panel_stride = kKeyTile * layout.panel;
  value.c = accumulator;
  value.c_stride = layout.value_columns;
  value.mode = Accumulate::add;
  tile_kernels().multiply(value);
}

void ForwardWorker::visit_segment(const ForwardRun& run, const PackedSegments& packed, const RowVisit& visit,
                                  const RowEntry* entries, int64_t count, const Rows& rows) {
  const KeyList& list = rows.pass->lists[static_cast<size_t>(visit.list)];
  const SegmentTile tile = packed.tile(run.layout, visit.segment);
  SegmentArguments segment;
  segment.rows = count;
  segment.entries = entries;
  segment.first_position = rows.begin;
  segment.keys = tile.count;
  segment.depth = run.layout.head_dim;
  segment.key_columns = tile.key_columns;
  segment.bias = tile.bias;
  segment.values = tile.values;
  segment.value_columns = run.layout.value_columns;
  segment.queries = queries_.data();
  segment.maximum = maximum_.data();
  segment.sum = sum_.data();
  segment.accumulator = accumulator_.data();
  segment.fixed = run.options.denominators != nullptr;
  segment.cap = run.options.score_cap != nullptr ? cap_.data() : nullptr;
  segment.capped = &capped_;
  WeightArguments weights;
  if (list.has_factor()) weights.row_factor = list.factor.row->data() + rows.begin;
  weights.rank_factor = tile.rank_factor;
  weights.denominator = tile.denominator;
  if (!run.absolute.empty()) weights.absolute = absolute_.data();
  tile_kernels().attend_segment(segment, weights);
}

}  // namespace hyperattn
