#include "core/linear_operator.h"

#include <memory>
#include <utility>

namespace hyperattn {

LinearOperator dense_operator(const RowMajorMatrix<double>& matrix) {
  using Block = LinearOperator::Block;
  const RowMajorMatrix<double>* a = &matrix;
  return {matrix.rows(), matrix.cols(), [a](const Block& x) -> Block { return *a * x; },
          [a](const Block& y) -> Block { return a->transpose() * y; }};
}

LinearOperator scale_rows(LinearOperator a, Eigen::VectorXd weights) {
  using Block = LinearOperator::Block;
  const auto scale = std::make_shared<const Eigen::VectorXd>(std::move(weights));
  LinearOperator scaled;
  scaled.rows = a.rows;
  scaled.cols = a.cols;
  scaled.apply = [scale, apply = std::move(a.apply)](const Block& x) -> Block {
    return scale->asDiagonal() * apply(x);
  };
  scaled.apply_transposed = [scale, apply = std::move(a.apply_transposed)](const Block& y) -> Block {
    return apply(scale->asDiagonal() * y);
  };
  return scaled;
}

}  // namespace hyperattn
