// One thread's part of a forward pass: tiles of query rows against tiles of keys, and its scratch memory.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "algorithms/engine.h"
#include "algorithms/engines/cpu/query_terms.h"
#include "algorithms/engines/cpu/rows_ahead.h"
#include "algorithms/engines/cpu/schedule.h"
#include "algorithms/kernels/packing.h"
#include "core/timing.h"

namespace hyperattn {

/// Everything that all workers share and none writes, except rows of the result that they own. Rows that meet
/// several phases keep their state in the result: reference and sum in `sums`, the accumulator in `out`, and
/// here what a signed denominator is judged by.
struct ForwardRun {
  const AttentionProblem& problem;
  const EngineOptions& options;
  const TileLayout& layout;
  AttentionResult& result;
  Buffer<double>& absolute;  ///< Σ |D| weight per row; empty unless the plan has signed weights
  bool finishes;             ///< the plan has one phase that covers all rows: they are finished on the spot
  bool resumes;              ///< rows may have a state from an earlier phase
};

/// What the jobs of a phase read together.
struct SharedTables {
  SharedLists lists;
  EntryRanges entries;
};

/// What is left to do when all of a row's keys are summed: its factor 1/denominator, its lse. A row without
/// keys and a guarded row get factor 0; the latter is counted.
struct FinishedRow {
  float factor = 0;
  float lse = 0;
  bool guarded = false;
};
// Inline, for what a call gives back goes through memory, where it waits for the stores of the row before.
[[nodiscard]] inline FinishedRow finish_row(const ForwardRun& run, int64_t flat_row, float maximum,
                                            double sum, double absolute) {
  const bool guarded = sum <= kGuardShare * absolute && absolute > 0;
  const bool empty = sum <= 0 || guarded;
  FinishedRow row;
  row.guarded = guarded;
  row.lse = empty ? -std::numeric_limits<float>::infinity()
                  : static_cast<float>((static_cast<double>(maximum) + std::log2(sum)) * std::numbers::ln2);
  if (run.options.denominators != nullptr) sum = run.options.denominators->sum.data()[flat_row];
  row.factor = guarded || !(sum > 0) ? 0.0F : static_cast<float>(1.0 / sum);
  return row;
}

class ForwardWorker {
 public:
  /// For tiles of at most `rows` query rows.
  ForwardWorker(const TileLayout& layout, int64_t rows);

  /// `next` is the job that comes after, as far as can be told; null: none.
  void run(const ForwardRun& run, const SharedTables& shared, const QueryJob& job, const QueryJob* next);

  [[nodiscard]] double seconds(Stage stage) const { return seconds_[static_cast<size_t>(stage)]; }
  [[nodiscard]] int64_t capped() const { return capped_; }
  [[nodiscard]] int64_t guarded() const { return guarded_; }

 private:
  /// Query rows in flight: positions [begin, begin + count) of a pass.
  struct Rows {
    const Pass* pass;
    int64_t begin;
    int64_t count;
  };
  /// The state of consecutive rows of the tile.
  struct State {
    float* maximum;
    double* sum;
    double* absolute;
    float* accumulator;
  };

  void run_rows(const ForwardRun& run, const SharedTables& shared, const QueryJob& job,
                const QueryGroup& group, const Rows& rows);
  void load_rows(const ForwardRun& run, const Rows& rows);
  void store_rows(const ForwardRun& run, const Rows& rows);
  void add_moments(const QueryGroup& group, const Rows& rows);
  void note_before_linear(const Rows& rows);
  void add_linear_values(const Rows& rows);
  void visit_list(const ForwardRun& run, const PackedList* packed, const Visit& visit, const Rows& rows);
  void visit_segment(const ForwardRun& run, const PackedSegments& packed, const RowVisit& visit,
                     const RowEntry* entries, int64_t count, const Rows& rows);
  void bound_scores(const KeyTile& tile, const Rows& rows, int64_t first, int64_t count);
  void attend(const ForwardRun& run, const KeyTile& tile, const KeyList& list, const Rows& rows);
  void mask_triangle(const Rows& rows, const KeyTile& tile, int64_t first, int64_t count, int64_t columns);
  void cap_scores(const KeyTile& tile, int64_t first, int64_t count, int64_t columns);
  void load_weights(const KeyTile& tile, const KeyList& list);
  void multiply_scores(const ForwardRun& run, const KeyTile& tile, int64_t first, int64_t rows,
                       int64_t columns);
  void softmax(const ForwardRun& run, const KeyList& list, int64_t rows, int64_t columns, const State& state,
               const float* bound, const float* row_factor);
  void round_weights(const TileLayout& layout, int64_t rows, int64_t columns);
  void multiply_values(const ForwardRun& run, const KeyTile& tile, int64_t rows, int64_t columns,
                       float* accumulator);
  void book(Stage stage) {
    seconds_[static_cast<size_t>(stage)] += watch_.seconds();
    watch_.restart();
  }

  Buffer<float> queries_;      // scaled to base 2, row-major
  Buffer<uint32_t> words_;     // of queries as they are, row-major; where tiles are of words
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
  Buffer<double> absolute_;
  Buffer<float> maximum_before_;  // of the linear lists
  Buffer<double> sum_before_;
  Buffer<float> denominator_;  // of a tile of a signed list
  Buffer<float> rank_factor_;  // of a tile of a list with a factor
  Buffer<float> cap_;          // of scores, base 2
  QueryTerms query_terms_;
  RowsAhead ahead_;
  std::array<double, static_cast<size_t>(Stage::count)> seconds_{};
  Stopwatch watch_;
  int64_t capped_ = 0;
  int64_t guarded_ = 0;
};

}  // namespace hyperattn
