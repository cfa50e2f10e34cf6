// Singular values for tests to compare with, in the one source that pays for Eigen's decomposition.
#pragma once

#include <Eigen/Core>

namespace hyperattn::testing {

/// In descending order, by Jacobi rotations.
[[nodiscard]] Eigen::VectorXd singular_values(const Eigen::MatrixXd& matrix);

/// The largest; 0 of an empty matrix.
[[nodiscard]] double operator_norm_of(const Eigen::MatrixXd& matrix);

}  // namespace hyperattn::testing
