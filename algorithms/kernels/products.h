// The door to the SIMD kernels for code that plans: products of many rows with a few, and what goes with
// them. It knows nothing of attention.
#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"

namespace hyperattn {

/// Rows that `PackedColumns::multiply` takes at once at best: their products stay in L1.
constexpr int64_t kProductRows = 24;

/// A few rows, packed once as the columns of products with many others.
class PackedColumns {
 public:
  /// Copies `factor` times the rows. Columns beyond their number are zero.
  explicit PackedColumns(MatrixView<const float> rows, float factor = 1);

  [[nodiscard]] int64_t count() const { return count_; }
  [[nodiscard]] int64_t columns() const { return columns_; }  ///< count rounded up to vectors

  /// out[i · columns() + j] = rows_i · row_j, plus bias[j] (columns() of them) unless that is null. 2·d FLOPs
  /// a product; a product's bits depend on its two rows alone.
  void multiply(MatrixView<const float> rows, const float* bias, float* out) const {
    multiply(rows, bias, out, columns_);
  }
  /// The same with rows of `out` that begin `stride` apart.
  void multiply(MatrixView<const float> rows, const float* bias, float* out, int64_t stride) const;

 private:
  int64_t count_;
  int64_t depth_;
  int64_t columns_;
  Buffer<float> packed_;
};

/// `count` rounded up to the vectors of the instruction set in use.
[[nodiscard]] int64_t whole_vectors(int64_t count);

/// Place of the largest of each row's `columns` (whole vectors) numbers, the first of equals.
void largest_of_rows(const float* rows, int64_t count, int64_t columns, uint32_t* places);

/// 2^x in place, `count` a multiple of the vectors.
void exponentiate_base2(float* x, int64_t count);

/// Asks for rows [begin, end), which products will read side by side: the processor sees no stream in them.
void prefetch_product_rows(MatrixView<const float> rows, int64_t begin, int64_t end);

/// aᵀ·b for matrices of equally many rows, whose products with each other are added up row by row.
class GramProduct {
 public:
  /// At most `rows` rows at a time.
  GramProduct(int64_t rows, int64_t a_columns, int64_t b_columns);

  /// Where to write the rows of b (row-major, stride `b_stride()`, whose padding must be zero) and of a
  /// (row-major, no gaps) before `multiply`.
  [[nodiscard]] float* a() { return a_.data(); }
  [[nodiscard]] float* b() { return b_.data(); }
  [[nodiscard]] int64_t b_stride() const { return b_stride_; }

  /// The product over `rows` rows: a_columns × b_columns, row stride `b_stride()`. Valid until the next call.
  [[nodiscard]] const float* multiply(int64_t rows);

 private:
  int64_t rows_;
  int64_t a_columns_;
  int64_t b_stride_;
  Buffer<float> a_;
  Buffer<float> b_;
  Buffer<float> panels_;
  Buffer<float> product_;
};

}  // namespace hyperattn
