// The door between plain memory and Eigen's algebra, for our own sources only: it is not installed, and no
// installed header includes Eigen. A program that uses the libraries may therefore be compiled for any
// instruction set, although that changes how Eigen's types are allocated and aligned. For the same reason the
// libraries are compiled with the namespace Eigen under another name (cmake/eigen.cmake), so that no inline
// function of theirs is taken for one of the program's own.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "core/tensor.h"

namespace hyperattn {

template <class Scalar>
using RowMajorMatrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Eigen's view of the same memory.
template <class T>
auto as_eigen(MatrixView<T> view) {
  using Plain = RowMajorMatrix<std::remove_const_t<T>>;
  using Matrix = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;
  return Eigen::Map<Matrix, 0, Eigen::OuterStride<>>(view.data, view.rows, view.cols,
                                                     Eigen::OuterStride<>(view.stride));
}
template <class T>
auto as_eigen(DenseMatrix<T>& matrix) {
  return Eigen::Map<RowMajorMatrix<T>>(matrix.values.data(), matrix.rows, matrix.cols);
}
template <class T>
auto as_eigen(const DenseMatrix<T>& matrix) {
  return Eigen::Map<const RowMajorMatrix<T>>(matrix.values.data(), matrix.rows, matrix.cols);
}
/// A column.
template <class T>
auto as_eigen(const std::vector<T>& vector) {
  return Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>>(vector.data(),
                                                               static_cast<Eigen::Index>(vector.size()));
}

/// The plain view of Eigen's memory, which must outlive it.
template <class T>
MatrixView<const T> view_of(const RowMajorMatrix<T>& matrix) {
  return {matrix.data(), matrix.rows(), matrix.cols(), matrix.cols()};
}
template <class T>
MatrixView<T> view_of(RowMajorMatrix<T>& matrix) {
  return {matrix.data(), matrix.rows(), matrix.cols(), matrix.cols()};
}
template <class T>
MatrixView<const T> view_of(const Eigen::Matrix<T, Eigen::Dynamic, 1>& column) {
  return {column.data(), column.size(), 1, 1};
}

/// What an expression evaluates to, in plain memory.
template <class Expression>
auto to_dense(const Eigen::MatrixBase<Expression>& expression) {
  DenseMatrix<typename Expression::Scalar> matrix(expression.rows(), expression.cols());
  as_eigen(matrix).noalias() = expression;
  return matrix;
}
/// The same for a column.
template <class Expression>
auto to_vector(const Eigen::DenseBase<Expression>& expression) {
  using Scalar = typename Expression::Scalar;
  std::vector<Scalar> vector(static_cast<size_t>(expression.size()));
  Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>>(vector.data(), expression.size()) =
      expression.derived();
  return vector;
}

}  // namespace hyperattn
