// The inner kernels of the engine, one table per instruction set. They work on tiles that fit in cache;
// everything else (tiling, masks, merging, threads) is portable code in engines/cpu.
//
// A *panelled* matrix is B with columns in panels of `panel` floats: element (k, j) lies at
// data[(j / panel) * panel_stride + k * width + j % panel], where width is `panel` except in a narrower last
// panel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyperattn {

struct RowEntry;  // algorithms/plan.h

enum class Accumulate {
  overwrite,  ///< C = A·B
  add,        ///< C += A·B
  bias,       ///< C = bias (one per column) + A·B
};

/// C (rows × columns, row stride c_stride) from A (element (i, k) at a[i·a_row + k·a_step]) and a panelled B.
/// `columns` is a multiple of the level's `lanes`.
struct MultiplyArguments {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t a_step = 1;
  const float* b = nullptr;
  int64_t b_panel_stride = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  const float* bias = nullptr;
  Accumulate mode = Accumulate::overwrite;
};

/// Rows of base-2 scores to be turned, in place, into weights 2^(score − reference).
struct SoftmaxArguments {
  int64_t rows = 0;
  int64_t columns = 0;  ///< multiple of `lanes`
  float* scores = nullptr;
  int64_t score_stride = 0;
  /// Running reference per row (starts at kNoScore), at most kHeadroom below the largest score so far; only
  /// read if `fixed`.
  float* maximum = nullptr;
  /// Upper bound of each row's scores here. Where it shows that none exceeds the reference by more than
  /// kHeadroom, the search for the maximum is left out.
  const float* bound = nullptr;
  double* sum = nullptr;  ///< running sum per row, relative to the reference
  float* accumulator =
      nullptr;  ///< running Σ weight·value per row, rescaled where the maximum grows; may be null
  int64_t accumulator_stride = 0;
  int64_t accumulator_columns = 0;  ///< multiple of `lanes`
  bool fixed = false;               ///< `maximum` is a given normaliser: neither updated nor summed under
};

/// What weights have besides their score; null pointers: nothing. Arrays by column have `columns` entries.
struct WeightArguments {
  const float* row_factor = nullptr;   ///< a by row; weights are times 1 + a_i · r_j
  const float* rank_factor = nullptr;  ///< r by column
  const float* numerator = nullptr;    ///< N by column; the forward pass has it in its packed values
  const float* denominator = nullptr;  ///< D by column: sums are of D · weight
  double* absolute = nullptr;          ///< running Σ |D| · weight per row, kept where signs may occur
};

/// Weights and score gradients of a backward tile, in place: p = 2^(s − maximum)·inverse, times the factor;
/// scores become N·p, gradients p·(N·dp − D·delta).
struct GradientArguments {
  int64_t rows = 0;
  int64_t columns = 0;             ///< multiple of `lanes`
  float* scores = nullptr;         ///< in: base-2 scores; out: p
  float* gradients = nullptr;      ///< in: dp; out: ds; null: only p is wanted
  int64_t stride = 0;              ///< of both
  const float* maximum = nullptr;  ///< reference per row, base 2; +infinity for a row without keys
  const float* inverse = nullptr;  ///< 1 over the row's sum relative to it
  const float* delta = nullptr;    ///< ⟨dout, out⟩ per row
};

/// Columns that a packed segment of so many keys has: halves of the widest vector.
[[nodiscard]] constexpr int64_t segment_width(int64_t keys) {
  return keys <= 8 ? 8 : 16;
}

/// Single rows of a tile that attend to a segment of 1 to 16 keys, each without the keys that its own entry
/// skips. Arrays by row are those of the tile; arrays by key have 16 entries. A row's bits depend on nothing
/// but its own state, query and entry and the segment.
struct SegmentArguments {
  int64_t rows = 0;
  const RowEntry* entries = nullptr;  ///< `rows` of them
  int64_t first_position = 0;         ///< row i of the tile is position first_position + i
  int64_t keys = 0;
  int64_t depth = 0;
  const float* key_columns = nullptr;  ///< depth × segment_width(keys)
  const float* bias = nullptr;         ///< by key
  const float* values = nullptr;       ///< keys × value_columns
  int64_t value_columns = 0;           ///< multiple of `lanes`; 0: only sums are wanted
  const float* queries = nullptr;      ///< by row, × depth
  float* maximum = nullptr;            ///< by row, as SoftmaxArguments has it
  double* sum = nullptr;               ///< by row
  float* accumulator = nullptr;        ///< by row, × value_columns
  bool fixed = false;                  ///< `maximum` is a given normaliser: not updated
  const float* cap = nullptr;          ///< of a row's scores before their bias, by row; null: none
  int64_t* capped = nullptr;           ///< counts entries that the cap lowered; not null if `cap` is
};

/// Copies `rows` given rows (length depth) as the columns of one panel: panel[k · width + j] = source[j][k];
/// missing columns up to `width`, a multiple of `lanes`, are zero.
struct TransposeArguments {
  const float* const* source = nullptr;
  int64_t rows = 0;
  int64_t depth = 0;
  float* panel = nullptr;
  int64_t width = 0;
  bool wants_norm = true;  ///< else what the rows hold need not be numbers
};

/// The start of a running maximum: finite, so that −∞ − maximum never becomes NaN.
constexpr float kNoScore = -3.4028234663852886e38F;

/// How far (base 2) a score may exceed a row's reference: weights stay below 2^30, so that a sum of 2^31 of
/// them times values up to 2^60 is a float.
constexpr float kHeadroom = 30;

struct TileKernels {
  const char* name;
  int64_t lanes;  ///< floats in a vector
  int64_t panel;  ///< columns that one register block covers
  void (*multiply)(const MultiplyArguments&);
  /// The first step of `softmax`, for kernels that have the others themselves: raises the references that
  /// need it and rescales what was summed.
  void (*raise_references)(const SoftmaxArguments&);
  void (*softmax)(const SoftmaxArguments&);
  /// The same where weights have more than their score.
  void (*weighted_softmax)(const SoftmaxArguments&, const WeightArguments&);
  /// Scores, weights and values of a segment; `WeightArguments` by row of the tile and by key.
  void (*attend_segment)(const SegmentArguments&, const WeightArguments&);
  /// The scores alone, of rows 0 to `rows` − 1 of the tile with segment_width(keys) columns, bit for bit
  /// those that `attend_segment` weighs: a score of a million that is rounded otherwise is another weight.
  void (*segment_scores)(const SegmentArguments&, float* scores, int64_t stride);
  void (*gradient)(const GradientArguments&);
  void (*weighted_gradient)(const GradientArguments&, const WeightArguments&);
  /// Returns the largest ‖row‖², which costs little while the panel is in cache; 0 where it is not wanted.
  float (*transpose)(const TransposeArguments&);
  /// For each of `rows` rows of `columns` (a multiple of lanes) numbers the place of the largest, the first
  /// of equals; 0 where there is none because of NaN.
  void (*argmax)(const float* rows_begin, int64_t rows, int64_t columns, uint32_t* places);
  /// 2^x for `count` values (a multiple of lanes), relative error below 2.5e-7 for x ≥ −126, below that
  /// flushed towards 0.
  void (*exp2)(const float* x, float* y, int64_t count);
  /// Runs `iterations` rounds of independent fused multiply-adds; returns FLOPs done.
  double (*fma_loop)(int64_t iterations);
};

/// Levels usable on this processor, best first, by Highway's target numbers, and the table of one.
[[nodiscard]] std::vector<int64_t> usable_levels();
[[nodiscard]] const TileKernels& kernels_of_level(int64_t highway_target);

/// The table in use (see kernels/instruction_set.h).
[[nodiscard]] const TileKernels& tile_kernels();

}  // namespace hyperattn
