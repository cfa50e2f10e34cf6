#include "core/operator_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/eigen.h"
#include "core/symmetric_eigen.h"

namespace hyperattn {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kRounding = 1e-14;

OperatorNorm not_finite(double value, int64_t applications) {
  return {value, NormStatus::not_finite, applications, kNaN};
}

Eigen::VectorXd random_start(const RandomStream& stream, int64_t size) {
  Eigen::VectorXd start(size);
  for (int64_t i = 0; i < size; ++i) start[i] = stream.normal(static_cast<uint64_t>(i));
  return start;
}

DenseMatrix<double> identity(int64_t size) {
  DenseMatrix<double> matrix(size, size);
  for (int64_t i = 0; i < size; ++i) matrix(i, i) = 1;
  return matrix;
}

// AᵀA/unit².
Eigen::VectorXd apply_square(const LinearOperator& a, const Eigen::VectorXd& x, double unit) {
  DenseMatrix<double> image = a.apply(view_of(x));
  as_eigen(image) /= unit;
  return as_eigen(a.apply_transposed(image)).col(0) / unit;
}

// The smaller side is short enough to take the matrix out of its operator.
OperatorNorm norm_of_small(const LinearOperator& a) {
  OperatorNorm norm = a.cols <= a.rows ? direct_norm(a.apply(identity(a.cols)))
                                       : direct_norm(a.apply_transposed(identity(a.rows)));
  norm.applications = std::min(a.rows, a.cols);
  return norm;
}

// The leading Ritz pair of the Lanczos basis so far, from the tridiagonal matrix VᵀAᵀAV.
struct RitzPair {
  double value = 0;
  double last_component = 0;  // times the next off-diagonal entry: the residual
};

RitzPair leading_ritz_pair(const std::vector<double>& diagonal, const std::vector<double>& off_diagonal) {
  const SymmetricEigen eigen = tridiagonal_eigen(diagonal, off_diagonal);
  const auto last = static_cast<int64_t>(diagonal.size()) - 1;
  return {eigen.values.back(), std::abs(eigen.vectors(last, last))};
}

// Lanczos on AᵀA/unit² with full reorthogonalisation, checked after every application.
OperatorNorm run_lanczos(const LinearOperator& a, double unit, const Eigen::VectorXd& start,
                         const OperatorNormOptions& options) {
  const int64_t most = std::min(options.max_applications, a.cols);
  std::vector<Eigen::VectorXd> basis = {start};
  std::vector<double> diagonal;
  std::vector<double> off_diagonal;
  OperatorNorm norm;
  norm.status = NormStatus::not_converged;
  while (true) {
    Eigen::VectorXd next = apply_square(a, basis.back(), unit);
    ++norm.applications;
    if (!next.allFinite()) return not_finite(kNaN, norm.applications);
    diagonal.push_back(basis.back().dot(next));
    for (int sweep = 0; sweep < 2; ++sweep)
      for (const Eigen::VectorXd& v : basis) next -= v.dot(next) * v;
    const double length = next.norm();
    const RitzPair ritz = leading_ritz_pair(diagonal, off_diagonal);
    norm.value = unit * std::sqrt(ritz.value);
    norm.residual = length * ritz.last_component / (2 * ritz.value);
    const bool exhausted = length <= kRounding * ritz.value;  // the basis spans an invariant space
    if (exhausted || norm.residual <= options.tolerance) norm.status = NormStatus::converged;
    if (norm.status == NormStatus::converged || norm.applications >= most) return norm;
    off_diagonal.push_back(length);
    basis.emplace_back(next / length);
  }
}

}  // namespace

const char* norm_status_name(NormStatus status) {
  switch (status) {
    case NormStatus::converged:
      return "converged";
    case NormStatus::not_converged:
      return "not_converged";
    case NormStatus::not_finite:
      return "not_finite";
  }
  return "";
}

OperatorNorm operator_norm(const LinearOperator& a, const RandomStream& stream,
                           const OperatorNormOptions& options) {
  if (std::min(a.rows, a.cols) <= options.direct_size) return norm_of_small(a);
  Eigen::VectorXd start = options.start.empty() ? random_start(stream, a.cols) : as_eigen(options.start);
  start.stableNormalize();
  // Squares of very large or very small entries would leave the range of double.
  const DenseMatrix<double> image = a.apply(view_of(start));
  if (!as_eigen(image).allFinite()) return not_finite(kNaN, 1);
  const double unit = as_eigen(image).stableNorm();
  if (unit == 0) return {0, NormStatus::converged, 1, 0};
  return run_lanczos(a, unit, start, options);
}

OperatorNorm direct_norm(MatrixView<const double> view) {
  const RowMajorMatrix<double> matrix = as_eigen(view);
  if (matrix.size() == 0) return {};
  const double largest = matrix.cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  if (!std::isfinite(largest)) return not_finite(largest, 0);
  if (largest == 0) return {};
  const RowMajorMatrix<double> scaled = matrix / largest;
  const int64_t side = std::min(matrix.rows(), matrix.cols());
  RowMajorMatrix<double> gram = RowMajorMatrix<double>::Zero(side, side);
  if (matrix.cols() <= matrix.rows())
    gram.selfadjointView<Eigen::Lower>().rankUpdate(scaled.transpose());
  else
    gram.selfadjointView<Eigen::Lower>().rankUpdate(scaled);
  OperatorNorm norm;
  norm.value = largest * std::sqrt(std::max(0.0, symmetric_eigenvalues(view_of(gram)).back()));
  return norm;
}

double frobenius_norm(MatrixView<const double> view) {
  const RowMajorMatrix<double> matrix = as_eigen(view);
  if (matrix.size() == 0) return 0;
  const double largest = matrix.cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  if (largest == 0 || !std::isfinite(largest)) return largest;
  return largest * (matrix / largest).norm();
}

}  // namespace hyperattn
