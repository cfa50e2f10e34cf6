#include "tests/singular_values.h"

#include <Eigen/SVD>

namespace hyperattn::testing {

Eigen::VectorXd singular_values(const Eigen::MatrixXd& matrix) {
  return Eigen::JacobiSVD<Eigen::MatrixXd>(matrix).singularValues();
}

double operator_norm_of(const Eigen::MatrixXd& matrix) {
  return matrix.size() == 0 ? 0 : singular_values(matrix)[0];
}

}  // namespace hyperattn::testing
