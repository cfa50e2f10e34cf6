// Eigenvalues and eigenvectors of small symmetric matrices, in the one source that pays for Eigen's solver.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace hyperattn {

struct SymmetricEigen {
  std::vector<double> values;   ///< in increasing order
  DenseMatrix<double> vectors;  ///< of unit length, as columns in that order
};

/// Of a square matrix, whose lower triangle is read. O(n³).
[[nodiscard]] SymmetricEigen symmetric_eigen(MatrixView<const double> matrix);
/// The eigenvalues alone, in increasing order.
[[nodiscard]] std::vector<double> symmetric_eigenvalues(MatrixView<const double> matrix);
/// Of the tridiagonal matrix with this diagonal, and one entry fewer beside it.
[[nodiscard]] SymmetricEigen tridiagonal_eigen(const std::vector<double>& diagonal,
                                               const std::vector<double>& off_diagonal);

}  // namespace hyperattn
