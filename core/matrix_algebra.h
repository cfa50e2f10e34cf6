// Products of matrices and what solves triangular systems, by Eigen, in the one source that pays for
// compiling them. Matrices are row-major and of sizes that agree; a result lies in other memory than what it
// is made of. One thread, and no randomness.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace hyperattn {

/// result = A·B.
void multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result);
void multiply(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result);

/// result = factor·A·Bᵀ.
void multiply_transposed(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result,
                         float factor = 1);
void multiply_transposed(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result);

/// result = Aᵀ·B.
void transposed_multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> result);
void transposed_multiply(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> result);

/// result = result − A·Bᵀ.
void subtract_multiply_transposed(MatrixView<const double> a, MatrixView<const double> b,
                                  MatrixView<double> result);

/// |row|² of each row.
[[nodiscard]] std::vector<double> squared_norms(MatrixView<const double> rows);

/// The upper triangular U with UᵀU = matrix, which is symmetric and positive definite; its upper triangle is
/// read.
[[nodiscard]] DenseMatrix<double> cholesky(MatrixView<const double> matrix);

/// rows = rows·U⁻¹ of the upper triangle of a matrix.
void solve_upper(MatrixView<const double> upper, MatrixView<double> rows);
/// rows = rows·L⁻¹ of the lower triangle of a matrix.
void solve_lower(MatrixView<const double> lower, MatrixView<double> rows);
/// rows = rows·L⁻ᵀ of the lower triangle of a matrix.
void solve_lower_transposed(MatrixView<const double> lower, MatrixView<double> rows);

}  // namespace hyperattn
