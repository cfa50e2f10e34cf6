// One thread's part of a backward pass: tiles of query rows against tiles of keys, and its scratch memory.
// With e = 2^(x − maximum)/sum (times the list's factor), δ_i = ⟨dout_i, out_i⟩ and s = scale·q·k:
//   dV_j += Σ_i N_j e_ij dout_i,   dS_ij = e_ij (N_j ⟨dout_i, v_j⟩ − D_j δ_i),
//   dQ_i += scale Σ_j dS_ij k_j,   dK_j += scale Σ_i dS_ij q_i.
// See backward_schedule.h for how it is parallel and yet deterministic.
#pragma once

#include <array>
#include <cstdint>

#include "algorithms/engines/cpu/backward_schedule.h"
#include "algorithms/kernels/packing.h"
#include "core/timing.h"

namespace hyperattn {

constexpr int64_t kBackwardKeys = 256;  ///< keys in a tile: K, its transpose, Vᵀ, dK and dV of it stay in L2
constexpr int64_t kBackwardRows =
    64;  ///< query rows in a tile: loading dK and dV does not show beside their sum

/// What all workers share. Without `dquery` and `dkey` only dV is wanted, and V is not read.
struct BackwardRun {
  const AttentionProblem& problem;
  const TileLayout& layout;  ///< value_dim is dout's
  TensorView<const float> dout;
  const float* maximum;  ///< per row, base 2; +∞ where the row has no keys
  const float* inverse;  ///< per row, 1/sum
  const float* delta;    ///< per row; null where only dV is wanted
  TensorView<float> dquery;
  TensorView<float> dkey;
  TensorView<float> dvalue;

  [[nodiscard]] bool only_values() const { return dquery.data == nullptr; }
};

/// Gradients of a segment's keys and values gathered by rank, a copy per replica.
struct GatheredGradients {
  Buffer<float> keys;
  Buffer<float> values;
};

class BackwardWorker {
 public:
  explicit BackwardWorker(const TileLayout& layout);

  void run(const BackwardRun& run, const BackwardTask& task, GatheredGradients* gathered);
  [[nodiscard]] double seconds(Stage stage) const { return seconds_[static_cast<size_t>(stage)]; }

 private:
  /// Keys of a list: ranks [rank, rank + count).
  struct Keys {
    const Pass* pass;
    const KeyList* list;
    int64_t rank;
    int64_t count;
  };

  void run_visit(const BackwardRun& run, const BackwardTask& task, const Visit& visit, const ChunkRange& rows,
                 const ChunkRange& ranks, GatheredGradients* gathered);
  void run_row_visits(const BackwardRun& run, const BackwardTask& task, const QueryGroup& group,
                      const ChunkRange& rows, const ChunkRange& ranks, GatheredGradients* gathered);
  void run_row_visit(const BackwardRun& run, const BackwardTask& task, const RowVisit& visit,
                     const ChunkRange& rows, GatheredGradients* gathered);
  static void prefetch_segment(const BackwardRun& run, const BackwardTask& task, const Keys& keys);
  /// `segment`: packed as the forward pass packs the segments of row visits.
  void load_keys(const BackwardRun& run, const Keys& keys, bool segment);
  /// Takes the positions of `row_positions_` into the tile.
  void load_rows(const BackwardRun& run, const Pass& pass, const KeyList& list, int64_t rows);
  const float* panels_of(const TileLayout& layout, const float* tile, int64_t rows, int64_t length,
                         float* panels);
  void score_rows(const BackwardRun& run, const Keys& keys, int64_t rows);
  /// Of a row visit, by the kernel of its forward pass.
  void score_segment_rows(const BackwardRun& run, const Keys& keys, const RowEntry* entries, int64_t rows);
  void compute(const BackwardRun& run, const Keys& keys, int64_t rows);
  void weigh(const BackwardRun& run, const KeyList& list, int64_t rows, int64_t columns);
  void store_rows(const BackwardRun& run, const Pass& pass, int64_t rows);
  void store_keys(const BackwardRun& run, const BackwardTask& task, const Keys& keys,
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
  const float* query_operand_ = nullptr;  // queries_ or query_panels_, and the same of dout
  const float* dout_operand_ = nullptr;
  Buffer<float> dqueries_;
  Buffer<float> scores_;
  Buffer<float> dscores_;
  Buffer<float> numerator_;
  Buffer<float> denominator_;
  Buffer<float> rank_factor_;
  std::array<int64_t, kBackwardRows> row_positions_{};
  std::array<float, kBackwardRows> maximum_{};
  std::array<float, kBackwardRows> inverse_{};
  std::array<float, kBackwardRows> delta_{};
  std::array<float, kBackwardRows> row_factor_{};
  std::array<const float*, kBackwardKeys> row_pointers_{};
  std::array<double, static_cast<size_t>(Stage::count)> seconds_{};
  Stopwatch watch_;
};

/// target += factor · source.
inline void add_scaled(const float* source, float factor, int64_t count, float* target) {
  for (int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
}

}  // namespace hyperattn
