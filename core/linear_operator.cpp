#include "core/linear_operator.h"

#include <memory>
#include <utility>

#include "core/eigen.h"
#include "core/matrix_algebra.h"

namespace hyperattn {

LinearOperator dense_operator(MatrixView<const double> matrix) {
  LinearOperator a;
  a.rows = matrix.rows;
  a.cols = matrix.cols;
  a.apply = [matrix](MatrixView<const double> x) {
    DenseMatrix<double> product(matrix.rows, x.cols);
    multiply(matrix, x, product.view());
    return product;
  };
  a.apply_transposed = [matrix](MatrixView<const double> y) {
    DenseMatrix<double> product(matrix.cols, y.cols);
    transposed_multiply(matrix, y, product.view());
    return product;
  };
  return a;
}

LinearOperator scale_rows(LinearOperator a, std::vector<double> weights) {
  const auto scale = std::make_shared<const std::vector<double>>(std::move(weights));
  LinearOperator scaled;
  scaled.rows = a.rows;
  scaled.cols = a.cols;
  scaled.apply = [scale, apply = std::move(a.apply)](MatrixView<const double> x) {
    DenseMatrix<double> product = apply(x);
    as_eigen(product).array().colwise() *= as_eigen(*scale).array();
    return product;
  };
  scaled.apply_transposed = [scale, apply = std::move(a.apply_transposed)](MatrixView<const double> y) {
    return apply(to_dense(as_eigen(*scale).asDiagonal() * as_eigen(y)));
  };
  return scaled;
}

}  // namespace hyperattn
