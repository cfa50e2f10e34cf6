// Row-major matrices and (batch, heads, rows, dim) tensors over plain memory. Views are pointers with a
// shape.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/memory.h"

namespace hyperattn {

/// A row-major matrix in someone else's memory; row i starts at data + i * stride.
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  [[nodiscard]] T* row(int64_t i) const { return data + i * stride; }
  operator MatrixView<const T>() const {
    return {data, rows, cols, stride};
  }  // NOLINT(google-explicit-constructor)
};

/// An owning row-major matrix without gaps between its rows; zero unless written.
template <class T>
struct DenseMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<T> values;

  DenseMatrix() = default;
  DenseMatrix(int64_t row_count, int64_t column_count)
      : rows(row_count), cols(column_count), values(static_cast<size_t>(row_count * column_count)) {}

  [[nodiscard]] MatrixView<T> view() { return {values.data(), rows, cols, cols}; }
  [[nodiscard]] T* row(int64_t i) { return values.data() + i * cols; }
  [[nodiscard]] const T* row(int64_t i) const { return values.data() + i * cols; }
  T& operator()(int64_t i, int64_t j) { return row(i)[j]; }
  const T& operator()(int64_t i, int64_t j) const { return row(i)[j]; }
  operator MatrixView<const T>() const {
    return {values.data(), rows, cols, cols};
  }  // NOLINT(google-explicit-constructor)
};

/// Rows [begin, end) of a matrix.
template <class T>
[[nodiscard]] MatrixView<T> rows_between(MatrixView<T> matrix, int64_t begin, int64_t end) {
  return {matrix.row(begin), end - begin, matrix.cols, matrix.stride};
}

/// Copies of some rows, in the order of their names.
template <class T>
[[nodiscard]] DenseMatrix<T> copied_rows(MatrixView<const T> matrix, const std::vector<int32_t>& names) {
  DenseMatrix<T> copies(static_cast<int64_t>(names.size()), matrix.cols);
  for (size_t i = 0; i < names.size(); ++i)
    std::copy_n(matrix.row(names[i]), matrix.cols, copies.row(static_cast<int64_t>(i)));
  return copies;
}

struct TensorShape {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t rows = 0;
  int64_t dim = 0;

  /// Of a shape that `is_countable`.
  [[nodiscard]] int64_t size() const { return batch * heads * rows * dim; }
  [[nodiscard]] int64_t matrices() const { return batch * heads; }
  bool operator==(const TensorShape&) const = default;
};

/// More elements than a double counts one by one, or matrices than an int32: no machine holds them, and
/// products with them could wrap.
inline constexpr int64_t kMaxElements = int64_t{1} << 53;
inline constexpr int64_t kMaxMatrices = (int64_t{1} << 31) - 1;

/// Whether a shape's size, and what is computed from it, stays far within int64. Every shape that a user or a
/// file names is asked before anything is computed with it.
[[nodiscard]] inline bool is_countable(const TensorShape& s) {
  const auto size = checked_product({s.batch, s.heads, s.rows, s.dim});
  return size && *size <= kMaxElements && s.matrices() <= kMaxMatrices;
}

/// "(1, 4, 4096, 64)", as numpy prints a shape.
[[nodiscard]] inline std::string to_string(const TensorShape& s) {
  return "(" + std::to_string(s.batch) + ", " + std::to_string(s.heads) + ", " + std::to_string(s.rows) +
         ", " + std::to_string(s.dim) + ")";
}

/// A contiguous row-major (batch, heads, rows, dim) tensor in someone else's memory.
template <class T>
struct TensorView {
  T* data = nullptr;
  TensorShape shape;

  /// The matrix of flat head index batch_index * heads + head_index.
  [[nodiscard]] MatrixView<T> matrix(int64_t flat_head) const {
    return {data + flat_head * shape.rows * shape.dim, shape.rows, shape.dim, shape.dim};
  }
  operator TensorView<const T>() const { return {data, shape}; }  // NOLINT(google-explicit-constructor)
};

/// An owning tensor; uninitialised unless a fill value is given. Move-only.
template <class T>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(const TensorShape& shape) : shape_(shape), buffer_(shape.size()) {}
  Tensor(const TensorShape& shape, T fill) : shape_(shape), buffer_(shape.size(), fill) {}

  [[nodiscard]] const TensorShape& shape() const { return shape_; }
  [[nodiscard]] T* data() { return buffer_.data(); }
  [[nodiscard]] const T* data() const { return buffer_.data(); }
  [[nodiscard]] TensorView<T> view() { return {buffer_.data(), shape_}; }
  [[nodiscard]] TensorView<const T> view() const { return {buffer_.data(), shape_}; }
  [[nodiscard]] MatrixView<T> matrix(int64_t flat_head) { return view().matrix(flat_head); }
  [[nodiscard]] MatrixView<const T> matrix(int64_t flat_head) const { return view().matrix(flat_head); }

 private:
  TensorShape shape_;
  Buffer<T> buffer_;
};

}  // namespace hyperattn
