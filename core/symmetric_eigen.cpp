#include "core/symmetric_eigen.h"

#include <Eigen/Eigenvalues>

#include "core/eigen.h"

namespace hyperattn {
namespace {

using Solver = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>;

std::vector<double> values_of(const Solver& solver) {
  const Eigen::VectorXd& values = solver.eigenvalues();
  return {values.data(), values.data() + values.size()};
}

}  // namespace

SymmetricEigen symmetric_eigen(MatrixView<const double> matrix) {
  const Solver solver(as_eigen(matrix));
  return {values_of(solver), to_dense(solver.eigenvectors())};
}

std::vector<double> symmetric_eigenvalues(MatrixView<const double> matrix) {
  return values_of(Solver(as_eigen(matrix), Eigen::EigenvaluesOnly));
}

SymmetricEigen tridiagonal_eigen(const std::vector<double>& diagonal,
                                 const std::vector<double>& off_diagonal) {
  Solver solver;
  solver.computeFromTridiagonal(as_eigen(diagonal), as_eigen(off_diagonal));
  return {values_of(solver), to_dense(solver.eigenvectors())};
}

}  // namespace hyperattn
