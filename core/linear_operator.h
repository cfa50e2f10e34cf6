// Linear maps known only by what they do to vectors, so that n × n matrices need never be stored.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace hyperattn {

/// A real rows × cols matrix A. Vectors are the columns of a block of any width.
struct LinearOperator {
  using Product = std::function<DenseMatrix<double>(MatrixView<const double>)>;

  int64_t rows = 0;
  int64_t cols = 0;
  Product apply;             ///< (cols × k) → A·X (rows × k)
  Product apply_transposed;  ///< (rows × k) → Aᵀ·Y (cols × k)
};

/// The operator of a stored matrix, which must outlive it.
[[nodiscard]] LinearOperator dense_operator(MatrixView<const double> matrix);

/// diag(weights)·A; `weights` has A's row count. Holds copies of both.
[[nodiscard]] LinearOperator scale_rows(LinearOperator a, std::vector<double> weights);

}  // namespace hyperattn
