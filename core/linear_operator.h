// Linear maps known only by what they do to vectors, so that n × n matrices need never be stored.
#pragma once

#include <cstdint>
#include <functional>

#include "core/tensor.h"

namespace hyperattn {

/// A real rows × cols matrix A. Vectors are the columns of a block of any width.
struct LinearOperator {
  using Block = RowMajorMatrix<double>;

  int64_t rows = 0;
  int64_t cols = 0;
  std::function<Block(const Block&)> apply;             ///< (cols × k) → A·X (rows × k)
  std::function<Block(const Block&)> apply_transposed;  ///< (rows × k) → Aᵀ·Y (cols × k)
};

/// The operator of a stored matrix, which must outlive it.
[[nodiscard]] LinearOperator dense_operator(const RowMajorMatrix<double>& matrix);

/// diag(weights)·A; `weights` has A's row count. Holds copies of both.
[[nodiscard]] LinearOperator scale_rows(LinearOperator a, Eigen::VectorXd weights);

}  // namespace hyperattn
