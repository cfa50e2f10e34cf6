// Inner kernels of bf16 for processors that multiply pairs of bfloat16. A *word* holds two bfloat16, the
// first in its lower half; a product of words is the sum of two products, added in fp32. Matrices of words
// have the panels of tile.h, with a word in place of a float:
//   K of a tile: word (p, j) is elements 2p and 2p + 1 of key j;
//   V of a tile: word (p, c) is column c of keys 2p and 2p + 1;
//   queries and weights: rows of words.
#pragma once

#include <cstdint>

namespace hyperattn {

/// C (rows × columns, row stride c_stride) from rows A (word (i, k) at a[i·a_row + k]) and a panelled B, of
/// `depth` words. Inner products are summed from zero, then C = bias + factor · A·B (one bias per column), or
/// C += A·B.
struct PairMultiplyArguments {
  int64_t rows = 0;
  int64_t columns = 0;  ///< multiple of 16
  int64_t depth = 0;    ///< multiple of `depth_step`
  const uint32_t* a = nullptr;
  int64_t a_row = 0;
  const uint32_t* b = nullptr;
  int64_t b_panel_stride = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  const float* bias = nullptr;  ///< null: C += A·B
  float factor = 1;
};

/// The columns of `count` rows from `first_column` on as a panel of V. Each row is times its factor, where
/// there are factors, before it is rounded.
struct PairRowsArguments {
  const float* const* source = nullptr;
  const float* factor = nullptr;
  int64_t count = 0;  ///< rows
  int64_t first_column = 0;
  int64_t columns = 0;  ///< of a row; beyond them are zeros
  uint32_t* panel = nullptr;
  int64_t width = 0;  ///< of the panel, a multiple of 16
  int64_t depth = 0;  ///< words that are written, zero beyond count / 2
};

struct SoftmaxArguments;  // kernels/tile.h

struct PairKernels {
  const char* name;
  int64_t panel;       ///< columns of a panel
  int64_t row_group;   ///< rows whose scores stay in L1
  int64_t row_step;    ///< rows are read and written in multiples of this
  int64_t depth_step;  ///< words
  /// Before and after a thread multiplies; nothing else of its may use the units in between.
  void (*begin)();
  void (*end)();
  void (*multiply)(const PairMultiplyArguments&);
  /// Rounds a row of `count` numbers to `words` words, zero beyond `count`; returns ‖row‖².
  float (*round_row)(const float* row, int64_t count, uint32_t* words, int64_t word_count);
  /// TileKernels::softmax after its `raise_references`, and `round_weights`, in one.
  void (*weigh)(const SoftmaxArguments&);
  /// Rounds rows of `columns` (a multiple of 16) weights in place: the words of a row stand where its floats
  /// did, zeros behind them up to a multiple of `depth_step`.
  void (*round_weights)(float* weights, int64_t stride, int64_t rows, int64_t columns);
  void (*pack_rows)(const PairRowsArguments&);
};

/// Null where the processor, or the instruction set in use (kernels/instruction_set.h), has none: then bf16
/// is fp32 kernels on rounded numbers.
[[nodiscard]] const PairKernels* pair_kernels();

/// Takes these in place of the level's own (tests); null: the level's own again.
void force_pair_kernels(const PairKernels* kernels);

/// AVX512-BF16; null where the processor has none.
[[nodiscard]] const PairKernels* avx512_pair_kernels();
/// AMX; null where the processor has none, or Linux does not let the process use it.
[[nodiscard]] const PairKernels* amx_pair_kernels();

}  // namespace hyperattn
