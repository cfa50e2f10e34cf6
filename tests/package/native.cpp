// A user's program that has its own Eigen and is compiled for the machine's own instruction set, unlike the
// library. How Eigen allocates and aligns depends on that; neither side may end up with the other's memory or
// functions.
#include <Eigen/Dense>

#include <core/linear_operator.h>
#include <core/operator_norm.h>

#include <cmath>
#include <cstdio>
#include <vector>

using namespace hyperattn;

int main() {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  double worst = 0;
  for (int size = 20; size < 60; ++size) {
    const Matrix a = Matrix::Random(size, size - 7);
    const Eigen::VectorXd weights = Eigen::VectorXd::LinSpaced(size, 1, 2);
    const MatrixView<const double> view{a.data(), a.rows(), a.cols(), a.cols()};
    OperatorNormOptions options;
    options.tolerance = 1e-9;
    const LinearOperator scaled =
        scale_rows(dense_operator(view), std::vector<double>(weights.begin(), weights.end()));
    const double norm = operator_norm(scaled, RandomStream(1, Purpose::other), options).value;
    const double expected =
        Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(a.transpose() * weights.cwiseAbs2().asDiagonal() * a)
            .eigenvalues()
            .maxCoeff();
    worst = std::max(worst, std::abs(norm / std::sqrt(expected) - 1));
  }
  std::printf("aligned to %d bytes here: largest relative difference %.1e\n", EIGEN_MAX_ALIGN_BYTES, worst);
  return worst < 1e-6 ? 0 : 1;
}
