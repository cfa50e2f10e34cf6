// Operator norms against Eigen's Jacobi SVD, at awkward sizes, scales and spectra.
#include "core/operator_norm.h"

#include <Eigen/Core>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/eigen.h"
#include "tests/singular_values.h"

namespace hyperattn {
namespace {

using Matrix = RowMajorMatrix<double>;

constexpr double kTolerance = 1e-3;  // the default of OperatorNormOptions
constexpr double kInfinity = std::numeric_limits<double>::infinity();

RandomStream test_stream(uint32_t trial = 0) {
  return {7, Purpose::operator_start, trial};
}

Matrix gaussian(int64_t rows, int64_t cols, uint64_t seed = 1) {
  const RandomStream stream(seed, Purpose::other);
  Matrix m(rows, cols);
  for (int64_t i = 0; i < m.size(); ++i) m.data()[i] = stream.normal(static_cast<uint64_t>(i));
  return m;
}

// The softmax of `spread` times Gaussian scores: non-negative, rows sum to 1.
Matrix softmax(int64_t rows, int64_t cols, double spread) {
  Matrix m = (spread * gaussian(rows, cols)).array().exp();
  for (int64_t i = 0; i < rows; ++i) m.row(i) /= m.row(i).sum();
  return m;
}

void require_norm(const OperatorNorm& norm, double expected, double tolerance) {
  INFO("norm " << norm.value << ", expected " << expected << ", status " << norm_status_name(norm.status)
               << ", residual " << norm.residual << ", applications " << norm.applications);
  REQUIRE(norm.value <= expected * (1 + 1e-9));
  REQUIRE(norm.value >= expected * (1 - tolerance));
}

}  // namespace

TEST_CASE("operator_norm agrees with the SVD at awkward shapes") {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},   {1, 50},  {50, 1},  {2, 3},    {12, 12},
                                                {13, 13}, {13, 90}, {90, 13}, {64, 200}, {200, 64}};
  for (const auto& [rows, cols] : shapes) {
    CAPTURE(rows, cols);
    const Matrix m = gaussian(rows, cols);
    const OperatorNorm norm = operator_norm(dense_operator(view_of(m)), test_stream());
    const bool small = std::min(rows, cols) <= 12;
    REQUIRE(norm.status == NormStatus::converged);
    REQUIRE(norm.residual <= (small ? 0 : kTolerance));
    require_norm(norm, testing::operator_norm_of(m), small ? 1e-12 : kTolerance);
    require_norm(direct_norm(view_of(m)), testing::operator_norm_of(m), 1e-12);
  }
}

TEST_CASE("operator_norm reaches its tolerance on softmax matrices from flat to peaked, within the budget") {
  for (const double spread : {0.0, 0.1, 1.0, 3.0, 10.0}) {
    CAPTURE(spread);
    const Matrix p = softmax(150, 160, spread);
    OperatorNormOptions options;
    options.start = to_vector(p.colwise().sum().transpose());
    const OperatorNorm norm = operator_norm(dense_operator(view_of(p)), test_stream(), options);
    REQUIRE(norm.status == NormStatus::converged);
    REQUIRE(norm.applications <= 45);
    require_norm(norm, testing::operator_norm_of(p), kTolerance);
  }
}

TEST_CASE("operator_norm keeps its tolerance at extreme scales") {
  const Matrix m = gaussian(40, 30);
  for (const double scale : {1e-200, 1e-12, 1.0, 1e12, 1e200}) {
    CAPTURE(scale);
    const Matrix scaled = scale * m;
    require_norm(operator_norm(dense_operator(view_of(scaled)), test_stream()),
                 scale * testing::operator_norm_of(m), kTolerance);
    require_norm(direct_norm(view_of(scaled)), scale * testing::operator_norm_of(m), 1e-12);
    REQUIRE(frobenius_norm(view_of(scaled)) == Approx(scale * m.norm()).epsilon(1e-12));
  }
}

TEST_CASE("operator_norm of zero, rank one and identity") {
  const Matrix zero = Matrix::Zero(40, 30);
  REQUIRE(operator_norm(dense_operator(view_of(zero)), test_stream()).value == 0);
  REQUIRE(direct_norm(view_of(zero)).value == 0);
  REQUIRE(frobenius_norm(view_of(zero)) == 0);
  const Matrix rank_one = gaussian(40, 1) * gaussian(1, 30);
  require_norm(operator_norm(dense_operator(view_of(rank_one)), test_stream()),
               testing::operator_norm_of(rank_one), 1e-12);
  const Matrix identity = Matrix::Identity(40, 40);
  require_norm(operator_norm(dense_operator(view_of(identity)), test_stream()), 1, 1e-12);
}

TEST_CASE("operator_norm says so when it does not converge, and stays a lower bound") {
  // Singular values spread evenly: no gap for Lanczos to use.
  const Matrix m = Eigen::VectorXd::LinSpaced(400, 0, 1).asDiagonal();
  OperatorNormOptions options;
  options.tolerance = 1e-9;
  options.max_applications = 20;
  const OperatorNorm norm = operator_norm(dense_operator(view_of(m)), test_stream(), options);
  REQUIRE(norm.status == NormStatus::not_converged);
  REQUIRE(norm.residual > options.tolerance);
  REQUIRE(norm.applications <= 30);
  require_norm(norm, 1, 0.05);
}

TEST_CASE("operator_norm is deterministic and depends on the stream only within its tolerance") {
  const Matrix m = gaussian(80, 70);
  const double first = operator_norm(dense_operator(view_of(m)), test_stream()).value;
  REQUIRE(operator_norm(dense_operator(view_of(m)), test_stream()).value == first);
  const double other = operator_norm(dense_operator(view_of(m)), test_stream(1)).value;
  REQUIRE(other == Approx(first).epsilon(kTolerance));
}

TEST_CASE("operator_norm reports entries that are not finite") {
  Matrix m = gaussian(40, 30);
  m(3, 4) = kInfinity;
  REQUIRE(direct_norm(view_of(m)).value == kInfinity);
  REQUIRE(direct_norm(view_of(m)).status == NormStatus::not_finite);
  REQUIRE(operator_norm(dense_operator(view_of(m)), test_stream()).status == NormStatus::not_finite);
  m(7, 7) = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(std::isnan(direct_norm(view_of(m)).value));
  REQUIRE(std::isnan(frobenius_norm(view_of(m))));
  const OperatorNorm norm = operator_norm(dense_operator(view_of(m)), test_stream());
  REQUIRE(std::isnan(norm.value));
  REQUIRE(norm.status == NormStatus::not_finite);
}

TEST_CASE("scale_rows is multiplication by a diagonal matrix") {
  const Matrix m = gaussian(20, 15);
  const Eigen::VectorXd weights = gaussian(20, 1, 2);
  const LinearOperator scaled = scale_rows(dense_operator(view_of(m)), to_vector(weights));
  const Matrix expected = weights.asDiagonal() * m;
  REQUIRE((as_eigen(scaled.apply(to_dense(Matrix::Identity(15, 15)))) - expected).norm() <=
          1e-14 * expected.norm());
  REQUIRE(
      (as_eigen(scaled.apply_transposed(to_dense(Matrix::Identity(20, 20)))) - expected.transpose()).norm() <=
      1e-14 * expected.norm());
}

}  // namespace hyperattn
