#include "algorithms/engines/cpu/backward_worker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "algorithms/engines/cpu/masking.h"
#include "algorithms/plan_walk.h"

namespace hyperattn {
BackwardWorker::BackwardWorker(const TileLayout& layout)
    : key_columns_(round_up(layout.head_dim, tile_kernels().lanes)),
      keys_transposed_(kBackwardKeys * layout.head_dim),
      values_transposed_(kBackwardKeys * layout.value_dim),
      keys_(kBackwardKeys * key_columns_),
      bias_(kBackwardKeys),
      dkeys_(kBackwardKeys * key_columns_),
      dvalues_(kBackwardKeys * layout.value_columns),
      queries_(kBackwardRows * layout.head_dim),
      query_panels_(kBackwardRows * key_columns_),
      dout_panels_(kBackwardRows * layout.value_columns),
      dout_(kBackwardRows * layout.value_dim),
      dqueries_(kBackwardRows * key_columns_),
      scores_(kBackwardRows * kBackwardKeys),
      dscores_(kBackwardRows * kBackwardKeys),
      numerator_(kBackwardKeys),
      denominator_(kBackwardKeys),
      rank_factor_(kBackwardKeys) {}

void BackwardWorker::run(const BackwardRun& run, const BackwardTask& task, GatheredGradients* gathered) {
  watch_.restart();
  const ListPiece& piece = *task.piece;
  const Pass& pass = *piece.pass;
  const ChunkRange rows = chunk_range(pass.queries.count, piece.query_chunks, task.query_chunk);
  const ChunkRange ranks = piece.ranks_of(task.key_chunk);
  const auto first_group = std::partition_point(pass.groups.begin(), pass.groups.end(),
                                                [&](const QueryGroup& g) { return g.end <= rows.begin; });
  for (auto group = first_group; group != pass.groups.end() && group->begin < rows.end; ++group) {
    const ChunkRange own{std::max(group->begin, rows.begin), std::min(group->end, rows.end)};
    for_each_visit(pass, *group, [&](const Visit& visit) {
      if (visit.list == piece.list) run_visit(run, task, visit, own, ranks, gathered);
    });
    if (group->first_row_visit < group->last_row_visit)
      run_row_visits(run, task, *group, own, ranks, gathered);
  }
}

void BackwardWorker::run_visit(const BackwardRun& run, const BackwardTask& task, const Visit& visit,
                               const ChunkRange& rows, const ChunkRange& ranks, GatheredGradients* gathered) {
  const Pass& pass = *task.piece->pass;
  const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
  const int64_t last_rank = std::min(visit.end, ranks.end);
  for (int64_t rank = std::max(visit.begin, ranks.begin); rank < last_rank; rank += kBackwardKeys) {
    if (pass.triangular && rank >= pass.last_visible(rows.end - 1)) break;
    const Keys keys{&pass, &list, rank, std::min(kBackwardKeys, last_rank - rank)};
    if (pass.triangular && rank + keys.count <= pass.first_visible(rows.begin)) continue;
    load_keys(run, keys, false);
    mask_left_out(pass, visit, rank, keys.count, bias_.data());
    for (int64_t position = rows.begin; position < rows.end; position += kBackwardRows) {
      const int64_t count = std::min(kBackwardRows, rows.end - position);
      if (pass.triangular && rank >= pass.last_visible(position + count - 1)) continue;
      for (int64_t i = 0; i < count; ++i) row_positions_[static_cast<size_t>(i)] = position + i;
      load_rows(run, pass, list, count);
      book(Stage::gather);
      score_rows(run, keys, count);
      if (pass.triangular)
        mask_triangle(pass, rank, position, count, round_up(keys.count, tile_kernels().lanes), scores_.data(),
                      kBackwardKeys);
      compute(run, keys, count);
      book(list.stage);
      store_rows(run, pass, count);
    }
    store_keys(run, task, keys, gathered);
    book(Stage::gather);
  }
}

/// The row visits of the piece's list whose segments begin in the chunk; segments do not cross chunks.
void BackwardWorker::run_row_visits(const BackwardRun& run, const BackwardTask& task, const QueryGroup& group,
                                    const ChunkRange& rows, const ChunkRange& ranks,
                                    GatheredGradients* gathered) {
  const Pass& pass = *task.piece->pass;
  for_each_row_visit(pass, group, [&](const RowVisit& visit) {
    if (visit.list != task.piece->list) return;
    const SegmentRange range = segment_of(pass.lists[static_cast<size_t>(visit.list)], visit.segment);
    if (range.begin >= ranks.begin && range.begin < ranks.end)
      run_row_visit(run, task, visit, rows, gathered);
  });
}

void BackwardWorker::run_row_visit(const BackwardRun& run, const BackwardTask& task, const RowVisit& visit,
                                   const ChunkRange& rows, GatheredGradients* gathered) {
  const Pass& pass = *task.piece->pass;
  const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
  const SegmentRange range = segment_of(list, visit.segment);
  const auto before = [](const RowEntry& entry, int64_t position) { return entry.position < position; };
  const RowEntry* entries = pass.row_entries.data();
  const RowEntry* first =
      std::lower_bound(entries + visit.first_entry, entries + visit.last_entry, rows.begin, before);
  const RowEntry* last = std::lower_bound(first, entries + visit.last_entry, rows.end, before);
  if (first == last || range.begin == range.end) return;
  const Keys keys{&pass, &list, range.begin, range.end - range.begin};
  prefetch_segment(run, task, keys);
  load_keys(run, keys, true);
  for (; first < last; first += kBackwardRows) {
    const int64_t count = std::min<int64_t>(kBackwardRows, last - first);
    for (int64_t i = 0; i < count; ++i) row_positions_[static_cast<size_t>(i)] = first[i].position;
    load_rows(run, pass, list, count);
    book(Stage::gather);
    score_segment_rows(run, keys, first, count);
    compute(run, keys, count);
    book(list.stage);
    store_rows(run, pass, count);
  }
  store_keys(run, task, keys, gathered);
  book(Stage::gather);
}

/// The rows of a segment lie scattered, and few query rows use them: asking for all early hides their
/// latency.
void BackwardWorker::prefetch_segment(const BackwardRun& run, const BackwardTask& task, const Keys& keys) {
  const TileLayout& layout = run.layout;
  for (int64_t rank = keys.rank; rank < keys.rank + keys.count; ++rank) {
    prefetch_row(key_row(run.problem, keys.pass->key_head, *keys.list, rank), layout.head_dim);
    if (!run.only_values())
      prefetch_row(value_row(run.problem, keys.pass->key_head, *keys.list, rank), layout.value_dim);
    if (!task.piece->direct) continue;
    const int64_t row = keys.list->order[rank];
    prefetch_row(run.dvalue.matrix(keys.pass->key_head).row(row), layout.value_dim);
    if (!run.only_values()) prefetch_row(run.dkey.matrix(keys.pass->key_head).row(row), layout.head_dim);
  }
}

void BackwardWorker::load_keys(const BackwardRun& run, const Keys& keys, bool segment) {
  const TileLayout& layout = run.layout;
  const KeyList& list = *keys.list;
  const int64_t columns = round_up(keys.count, tile_kernels().lanes);
  if (!run.only_values()) {
    for (int64_t j = 0; j < keys.count; ++j)
      row_pointers_[static_cast<size_t>(j)] =
          value_row(run.problem, keys.pass->key_head, list, keys.rank + j);
    pack_transposed(row_pointers_.data(), keys.count, layout.value_dim, columns, layout.panel,
                    values_transposed_.data());
  }
  for (int64_t j = 0; j < keys.count; ++j)
    row_pointers_[static_cast<size_t>(j)] = key_row(run.problem, keys.pass->key_head, list, keys.rank + j);
  if (segment)
    pack_segment_columns(row_pointers_.data(), keys.count, layout.head_dim, keys_transposed_.data());
  else
    pack_transposed(row_pointers_.data(), keys.count, layout.head_dim, columns, layout.panel,
                    keys_transposed_.data());
  fill_bias(list, keys.rank, keys.count, segment ? kSegmentKeys : columns, bias_.data());
  if (list.has_factor()) load_numbers(*list.factor.rank, keys.rank, keys.count, columns, rank_factor_.data());
  if (list.signed_weights) {
    load_numbers(list.signed_weights->numerator, keys.rank, keys.count, columns, numerator_.data());
    load_numbers(list.signed_weights->denominator, keys.rank, keys.count, columns, denominator_.data());
  }
  std::fill_n(dvalues_.data(), keys.count * layout.value_columns, 0.0F);
  if (run.only_values()) return;
  pack_rows(row_pointers_.data(), keys.count, layout.head_dim, key_columns_, layout.panel, kBackwardKeys,
            keys_.data());
  std::fill_n(dkeys_.data(), keys.count * key_columns_, 0.0F);
}

/// Rows of a tile as the right-hand side of products: packed into `panels`, unless they are a panel already.
const float* BackwardWorker::panels_of(const TileLayout& layout, const float* tile, int64_t rows,
                                       int64_t length, float* panels) {
  const int64_t columns = round_up(length, tile_kernels().lanes);
  if (length == columns && columns <= layout.panel) return tile;
  for (int64_t i = 0; i < rows; ++i) row_pointers_[static_cast<size_t>(i)] = tile + i * length;
  pack_rows(row_pointers_.data(), rows, length, columns, layout.panel, kBackwardRows, panels);
  return panels;
}

void BackwardWorker::load_rows(const BackwardRun& run, const Pass& pass, const KeyList& list, int64_t rows) {
  const TileLayout& layout = run.layout;
  const int64_t first_row = pass.head * run.problem.query_count();
  const MatrixView<const float> query = run.problem.query.matrix(pass.head);
  const MatrixView<const float> dout = run.dout.matrix(pass.head);
  const float factor = run.problem.scale * kLog2E;
  const auto prefetch = [&](int64_t i) {
    const int64_t row = pass.queries[row_positions_[static_cast<size_t>(i)]];
    prefetch_row(query.row(row), layout.head_dim);
    prefetch_row(dout.row(row), layout.value_dim);
    if (!run.only_values()) prefetch_row(run.dquery.matrix(pass.head).row(row), layout.head_dim);
  };
  for (int64_t i = 0; i < std::min(rows, kPrefetchAhead); ++i) prefetch(i);
  for (int64_t i = 0; i < rows; ++i) {
    if (i + kPrefetchAhead < rows) prefetch(i + kPrefetchAhead);
    const auto own = static_cast<size_t>(i);
    const int64_t position = row_positions_[own];
    const int64_t row = pass.queries[position];
    const float* source = query.row(row);
    float* target = queries_.data() + i * layout.head_dim;
    for (int64_t k = 0; k < layout.head_dim; ++k) target[k] = source[k] * factor;
    std::copy_n(dout.row(row), layout.value_dim, dout_.data() + i * layout.value_dim);
    maximum_[own] = run.maximum[first_row + row];
    inverse_[own] = run.inverse[first_row + row];
    if (run.delta != nullptr) delta_[own] = run.delta[first_row + row];
    if (list.has_factor()) row_factor_[own] = (*list.factor.row)[static_cast<size_t>(position)];
  }
  dout_operand_ = panels_of(layout, dout_.data(), rows, layout.value_dim, dout_panels_.data());
  if (run.only_values()) return;
  query_operand_ = panels_of(layout, queries_.data(), rows, layout.head_dim, query_panels_.data());
}

void BackwardWorker::score_rows(const BackwardRun& run, const Keys& keys, int64_t rows) {
  MultiplyArguments score;
  score.rows = rows;
  score.columns = round_up(keys.count, tile_kernels().lanes);
  score.depth = run.layout.head_dim;
  score.a = queries_.data();
  score.a_row = run.layout.head_dim;
  score.b = keys_transposed_.data();
  score.b_panel_stride = run.layout.panel * run.layout.head_dim;
  score.c = scores_.data();
  score.c_stride = kBackwardKeys;
  score.bias = bias_.data();
  score.mode = Accumulate::bias;
  tile_kernels().multiply(score);
}

void BackwardWorker::score_segment_rows(const BackwardRun& run, const Keys& keys, const RowEntry* entries,
                                        int64_t rows) {
  SegmentArguments segment;
  segment.rows = rows;
  segment.keys = keys.count;
  segment.depth = run.layout.head_dim;
  segment.key_columns = keys_transposed_.data();
  segment.bias = bias_.data();
  segment.queries = queries_.data();
  tile_kernels().segment_scores(segment, scores_.data(), kBackwardKeys);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < round_up(keys.count, tile_kernels().lanes); ++j)
      if (j >= keys.count || (entries[i].skip >> j & 1) != 0)
        scores_[i * kBackwardKeys + j] = -std::numeric_limits<float>::infinity();
}

/// Scores become N·e, and ⟨dout_i, v_j⟩ becomes dS.
void BackwardWorker::weigh(const BackwardRun& run, const KeyList& list, int64_t rows, int64_t columns) {
  GradientArguments gradient;
  gradient.rows = rows;
  gradient.columns = columns;
  gradient.scores = scores_.data();
  gradient.gradients = run.only_values() ? nullptr : dscores_.data();
  gradient.stride = kBackwardKeys;
  gradient.maximum = maximum_.data();
  gradient.inverse = inverse_.data();
  gradient.delta = delta_.data();
  if (!list.has_factor() && !list.signed_weights) return tile_kernels().gradient(gradient);
  WeightArguments weights;
  if (list.has_factor()) weights.row_factor = row_factor_.data();
  weights.rank_factor = rank_factor_.data();
  if (list.signed_weights) {
    weights.numerator = numerator_.data();
    weights.denominator = denominator_.data();
  }
  tile_kernels().weighted_gradient(gradient, weights);
}

void BackwardWorker::compute(const BackwardRun& run, const Keys& keys, int64_t rows) {
  const TileKernels& kernels = tile_kernels();
  const TileLayout& layout = run.layout;
  const int64_t columns = round_up(keys.count, tile_kernels().lanes);
  if (!run.only_values()) {
    MultiplyArguments dweight;  // ⟨dout_i, v_j⟩
    dweight.rows = rows;
    dweight.columns = columns;
    dweight.depth = layout.value_dim;
    dweight.a = dout_.data();
    dweight.a_row = layout.value_dim;
    dweight.b = values_transposed_.data();
    dweight.b_panel_stride = layout.panel * layout.value_dim;
    dweight.c = dscores_.data();
    dweight.c_stride = kBackwardKeys;
    kernels.multiply(dweight);
  }
  weigh(run, *keys.list, rows, columns);

  MultiplyArguments dvalue;
  dvalue.rows = keys.count;
  dvalue.columns = layout.value_columns;
  dvalue.depth = rows;
  dvalue.a = scores_.data();
  dvalue.a_row = 1;
  dvalue.a_step = kBackwardKeys;
  dvalue.b = dout_operand_;
  dvalue.b_panel_stride = kBackwardRows * layout.panel;
  dvalue.c = dvalues_.data();
  dvalue.c_stride = layout.value_columns;
  dvalue.mode = Accumulate::add;
  kernels.multiply(dvalue);
  if (run.only_values()) return;

  MultiplyArguments dquery;
  dquery.rows = rows;
  dquery.columns = key_columns_;
  dquery.depth = keys.count;
  dquery.a = dscores_.data();
  dquery.a_row = kBackwardKeys;
  dquery.b = keys_.data();
  dquery.b_panel_stride = kBackwardKeys * layout.panel;
  dquery.c = dqueries_.data();
  dquery.c_stride = key_columns_;
  kernels.multiply(dquery);

  MultiplyArguments dkey = dvalue;
  dkey.columns = key_columns_;
  dkey.a = dscores_.data();
  dkey.b = query_operand_;
  dkey.c = dkeys_.data();
  dkey.c_stride = key_columns_;
  kernels.multiply(dkey);
}

void BackwardWorker::store_rows(const BackwardRun& run, const Pass& pass, int64_t rows) {
  if (run.only_values()) return;
  const MatrixView<float> dquery = run.dquery.matrix(pass.head);
  for (int64_t i = 0; i < rows; ++i)
    add_scaled(dqueries_.data() + i * key_columns_, run.problem.scale, run.layout.head_dim,
               dquery.row(pass.queries[row_positions_[static_cast<size_t>(i)]]));
}

void BackwardWorker::store_keys(const BackwardRun& run, const BackwardTask& task, const Keys& keys,
                                GatheredGradients* gathered) {
  const TileLayout& layout = run.layout;
  const ListPiece& piece = *task.piece;
  // The packed queries carry scale·log₂e; the gradient wants the scale alone.
  const auto key_factor = static_cast<float>(std::numbers::ln2);
  const int64_t replica = piece.replicas > 1 ? task.query_chunk : 0;
  for (int64_t j = 0; j < keys.count; ++j) {
    const int64_t slot = replica * piece.count + keys.rank + j - piece.first;
    const int64_t row = piece.direct ? keys.list->order[keys.rank + j] : 0;
    float* dvalue = piece.direct ? run.dvalue.matrix(keys.pass->key_head).row(row)
                                 : gathered->values.data() + slot * layout.value_dim;
    add_scaled(dvalues_.data() + j * layout.value_columns, 1.0F, layout.value_dim, dvalue);
    if (run.only_values()) continue;
    float* dkey = piece.direct ? run.dkey.matrix(keys.pass->key_head).row(row)
                               : gathered->keys.data() + slot * layout.head_dim;
    add_scaled(dkeys_.data() + j * key_columns_, key_factor, layout.head_dim, dkey);
  }
}

}  // namespace hyperattn
