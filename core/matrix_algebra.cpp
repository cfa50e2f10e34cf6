#include "core/matrix_algebra.h"

#include <Eigen/Cholesky>

#include "core/eigen.h"

namespace hyperattn {

void multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result) {
  as_eigen(result).noalias() = as_eigen(a) * as_eigen(b);
}

void multiply(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result) {
  as_eigen(result).noalias() = as_eigen(a) * as_eigen(b);
}

void multiply_transposed(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result,
                         float factor) {
  as_eigen(result).noalias() = (factor * as_eigen(a)) * as_eigen(b).transpose();
}

void multiply_transposed(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result) {
  as_eigen(result).noalias() = as_eigen(a) * as_eigen(b).transpose();
}

void transposed_multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result) {
  as_eigen(result).noalias() = as_eigen(a).transpose() * as_eigen(b);
}

void transposed_multiply(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result) {
  as_eigen(result).noalias() = as_eigen(a).transpose() * as_eigen(b);
}

void subtract_multiply_transposed(MatrixView<const double> a, MatrixView<const double> b,
                                  MatrixView<double> result) {
  as_eigen(result).noalias() -= as_eigen(a) * as_eigen(b).transpose();
}

std::vector<double> squared_norms(MatrixView<const double> rows) {
  std::vector<double> norms;
  for (int64_t i = 0; i < rows.rows; ++i) norms.push_back(as_eigen(rows).row(i).squaredNorm());
  return norms;
}

DenseMatrix<double> cholesky(MatrixView<const double> matrix) {
  // Eigen's usual order of columns: its lower triangle is our upper one.
  const Eigen::LLT<Eigen::MatrixXd> factor(as_eigen(matrix).transpose());
  DenseMatrix<double> upper(matrix.rows, matrix.cols);
  as_eigen(upper) = factor.matrixLLT().transpose().triangularView<Eigen::Upper>();
  return upper;
}

void solve_upper(MatrixView<const double> upper, MatrixView<double> rows) {
  auto solved = as_eigen(rows);
  as_eigen(upper).triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(solved);
}

void solve_lower(MatrixView<const double> lower, MatrixView<double> rows) {
  auto solved = as_eigen(rows);
  as_eigen(lower).triangularView<Eigen::Lower>().solveInPlace<Eigen::OnTheRight>(solved);
}

void solve_lower_transposed(MatrixView<const double> lower, MatrixView<double> rows) {
  auto solved = as_eigen(rows);
  as_eigen(lower).transpose().triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(solved);
}

}  // namespace hyperattn
