// Against plain loops, at sizes around those of Eigen's kernels and panels.
#include "core/matrix_algebra.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "core/random.h"

using namespace hyperattn;

namespace {

/// Numbers in (−1, 1), in rows that are further apart than they are long, as those of a part of a matrix are.
template <class T>
struct Drawn {
  int64_t rows, cols;
  std::vector<T> memory;

  Drawn(int64_t row_count, int64_t column_count, uint64_t seed)
      : rows(row_count), cols(column_count), memory(static_cast<size_t>(rows * (cols + 3))) {
    const RandomStream stream(seed, Purpose::other);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<T>(2 * stream.uniform(i) - 1);
  }
  [[nodiscard]] MatrixView<T> view() { return {memory.data(), rows, cols, cols + 3}; }
  [[nodiscard]] MatrixView<const T> read() const { return {memory.data(), rows, cols, cols + 3}; }
};

template <class T>
void check_near(MatrixView<const T> seen, const DenseMatrix<double>& expected, double tolerance) {
  REQUIRE(seen.rows == expected.rows);
  REQUIRE(seen.cols == expected.cols);
  for (int64_t i = 0; i < seen.rows; ++i)
    for (int64_t j = 0; j < seen.cols; ++j) {
      INFO("row " << i << ", column " << j);
      CHECK(static_cast<double>(seen.row(i)[j]) == Approx(expected(i, j)).margin(tolerance));
    }
}

/// A·B, or with the flags of the transposes.
template <class T>
DenseMatrix<double> by_loops(MatrixView<const T> a, bool a_transposed, MatrixView<const T> b,
                             bool b_transposed) {
  const int64_t depth = a_transposed ? a.rows : a.cols;
  DenseMatrix<double> sum(a_transposed ? a.cols : a.rows, b_transposed ? b.rows : b.cols);
  for (int64_t i = 0; i < sum.rows; ++i)
    for (int64_t j = 0; j < sum.cols; ++j)
      for (int64_t k = 0; k < depth; ++k)
        sum(i, j) += static_cast<double>(a_transposed ? a.row(k)[i] : a.row(i)[k]) *
                     static_cast<double>(b_transposed ? b.row(j)[k] : b.row(k)[j]);
  return sum;
}

struct Sizes {
  int64_t rows, depth, cols;
};
const std::vector<Sizes> kSizes = {{1, 1, 1},   {2, 3, 5},    {1, 40, 7},
                                   {31, 17, 1}, {13, 64, 29}, {65, 130, 67}};

template <class T>
void check_products(double tolerance) {
  for (const auto& [rows, depth, cols] : kSizes) {
    INFO(rows << " x " << depth << " x " << cols);
    const Drawn<T> a(rows, depth, 1);
    const Drawn<T> a_transposed(depth, rows, 2);
    const Drawn<T> b(depth, cols, 3);
    const Drawn<T> b_transposed(cols, depth, 4);
    Drawn<T> result(rows, cols, 5);
    multiply(a.read(), b.read(), result.view());
    check_near(result.read(), by_loops(a.read(), false, b.read(), false), tolerance);
    multiply_transposed(a.read(), b_transposed.read(), result.view());
    check_near(result.read(), by_loops(a.read(), false, b_transposed.read(), true), tolerance);
    transposed_multiply(a_transposed.read(), b.read(), result.view());
    check_near(result.read(), by_loops(a_transposed.read(), true, b.read(), false), tolerance);
  }
}

/// The triangle of a matrix, whose other half no solver may read.
DenseMatrix<double> triangle(const Drawn<double>& drawn, bool upper) {
  DenseMatrix<double> kept(drawn.rows, drawn.cols);
  for (int64_t i = 0; i < kept.rows; ++i)
    for (int64_t j = 0; j < kept.cols; ++j)
      if (i == j || (i < j) == upper) kept(i, j) = drawn.read().row(i)[j];
  return kept;
}

}  // namespace

TEST_CASE("products of matrices are those of plain loops", "[matrix_algebra]") {
  check_products<double>(1e-12);
  check_products<float>(2e-5);
}

TEST_CASE("a factor multiplies a product, and a product is subtracted", "[matrix_algebra]") {
  for (const auto& [rows, depth, cols] : kSizes) {
    INFO(rows << " x " << depth << " x " << cols);
    const Drawn<float> a(rows, depth, 1);
    const Drawn<float> b(cols, depth, 2);
    Drawn<float> result(rows, cols, 3);
    DenseMatrix<double> expected = by_loops(a.read(), false, b.read(), true);
    for (double& value : expected.values) value *= 0.25;
    multiply_transposed(a.read(), b.read(), result.view(), 0.25F);
    check_near(result.read(), expected, 2e-5);

    const Drawn<double> c(rows, depth, 4);
    const Drawn<double> d(cols, depth, 5);
    Drawn<double> less(rows, cols, 6);
    expected = by_loops(c.read(), false, d.read(), true);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) expected(i, j) = less.read().row(i)[j] - expected(i, j);
    subtract_multiply_transposed(c.read(), d.read(), less.view());
    check_near(less.read(), expected, 1e-12);
  }
}

TEST_CASE("products write nothing between the rows of a result", "[matrix_algebra]") {
  const Drawn<double> a(13, 64, 1);
  const Drawn<double> b(64, 29, 2);
  Drawn<double> result(13, 29, 3);
  const std::vector<double> before = result.memory;
  multiply(a.read(), b.read(), result.view());
  for (size_t i = 0; i < before.size(); ++i)
    if (i % 32 >= 29) CHECK(result.memory[i] == before[i]);
}

TEST_CASE("squared norms are those of the rows", "[matrix_algebra]") {
  const Drawn<double> rows(5, 37, 1);
  const std::vector<double> norms = squared_norms(rows.read());
  REQUIRE(norms.size() == 5);
  for (int64_t i = 0; i < 5; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < 37; ++j) sum += rows.read().row(i)[j] * rows.read().row(i)[j];
    CHECK(norms[static_cast<size_t>(i)] == Approx(sum).epsilon(1e-14));
  }
}

TEST_CASE("the Cholesky factor is upper triangular and gives the matrix back", "[matrix_algebra]") {
  for (const int64_t size : {1, 2, 7, 33, 130}) {
    INFO("size " << size);
    const Drawn<double> drawn(2 * size, size, 1);
    DenseMatrix<double> gram = by_loops(drawn.read(), true, drawn.read(), false);
    for (int64_t i = 0; i < size; ++i) gram(i, i) += 1;
    const DenseMatrix<double> upper = cholesky(gram);
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < i; ++j) CHECK(upper(i, j) == 0);
    check_near<double>(gram, by_loops<double>(upper, true, upper, false), 1e-11);
  }
}

TEST_CASE("solutions of triangular systems give the rows back", "[matrix_algebra]") {
  for (const int64_t size : {1, 2, 7, 33, 130}) {
    INFO("size " << size);
    Drawn<double> matrix(size, size, 1);
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < size; ++j) matrix.view().row(i)[j] /= static_cast<double>(size);
      matrix.view().row(i)[i] = 2;
    }
    const Drawn<double> rows(19, size, 2);
    DenseMatrix<double> expected(rows.rows, rows.cols);
    for (int64_t i = 0; i < rows.rows; ++i) std::copy_n(rows.read().row(i), size, expected.row(i));

    Drawn<double> solved = rows;
    solve_upper(matrix.view(), solved.view());
    check_near<double>(by_loops<double>(solved.read(), false, triangle(matrix, true), false), expected,
                       1e-12);
    solved = rows;
    solve_lower(matrix.view(), solved.view());
    check_near<double>(by_loops<double>(solved.read(), false, triangle(matrix, false), false), expected,
                       1e-12);
    solved = rows;
    solve_lower_transposed(matrix.view(), solved.view());
    check_near<double>(by_loops<double>(solved.read(), false, triangle(matrix, false), true), expected,
                       1e-12);
  }
}
