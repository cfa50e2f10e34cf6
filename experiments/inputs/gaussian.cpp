// Independent standard normal queries, keys and values: no heavy entries. Optionally with the singular values
// of Q and K spread geometrically to a wanted ratio.
#include <algorithm>
#include <cmath>

#include "core/eigen.h"
#include "core/error.h"
#include "core/matrix_algebra.h"
#include "core/parallel.h"
#include "core/symmetric_eigen.h"
#include "experiments/inputs/described_source.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

using Matrix = RowMajorMatrix<double>;

// Above this the smallest singular value would drown in the rounding of the float entries.
constexpr double kMaxSpectrum = 1e4;
constexpr int64_t kRowsPerTask = 1024;

ParameterSpec spectrum_parameter() {
  return number_parameter(
             "spectrum",
             "ratio of the largest to the smallest singular value of Q and of K, spaced geometrically (their "
             "ordinary condition number; the paper's kappa is condition_number); absent: as drawn")
      .between(1, kMaxSpectrum)
      .or_absent();
}

Matrix gram(MatrixView<const float> matrix) {
  const int64_t tasks = (matrix.rows + kRowsPerTask - 1) / kRowsPerTask;
  std::vector<Matrix> partial(static_cast<size_t>(tasks));
  parallel_for(tasks, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    const Matrix rows =
        as_eigen(matrix).middleRows(begin, std::min(kRowsPerTask, matrix.rows - begin)).cast<double>();
    Matrix squares(matrix.cols, matrix.cols);
    transposed_multiply(view_of(rows), view_of(rows), view_of(squares));
    partial[static_cast<size_t>(task)] = std::move(squares);
  });
  Matrix total = Matrix::Zero(matrix.cols, matrix.cols);
  for (const Matrix& part : partial) total += part;
  return total;
}

/// X ← X W, where W keeps the singular vectors of X and its Frobenius norm, and spaces its min(rows, cols)
/// singular values geometrically with the wanted ratio. O(rows · cols²).
void shape_spectrum(MatrixView<float> matrix, double ratio) {
  const Matrix squares = gram(matrix);
  const SymmetricEigen eigen = symmetric_eigen(view_of(squares));
  const int64_t rank = std::min(matrix.rows, matrix.cols);
  Eigen::VectorXd wanted(rank);
  for (int64_t i = 0; i < rank; ++i)
    wanted[i] = rank == 1 ? 1 : std::pow(ratio, static_cast<double>(i) / static_cast<double>(rank - 1));
  const Eigen::VectorXd present = as_eigen(eigen.values).tail(rank).cwiseMax(0).cwiseSqrt();
  wanted *= present.norm() / wanted.norm();
  const Matrix directions = as_eigen(eigen.vectors).rightCols(rank);
  const Matrix stretched = directions * wanted.cwiseQuotient(present).asDiagonal();
  Matrix transform(matrix.cols, matrix.cols);
  multiply_transposed(view_of(stretched), view_of(directions), view_of(transform));
  parallel_for((matrix.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    auto rows = as_eigen(matrix).middleRows(begin, std::min(kRowsPerTask, matrix.rows - begin));
    const Matrix drawn = rows.cast<double>();
    Matrix shaped(drawn.rows(), drawn.cols());
    multiply(view_of(drawn), view_of(std::as_const(transform)), view_of(shaped));
    rows = shaped.cast<float>();
  });
}

SourceDescription description() {
  return {"gaussian", "independent standard normal Q, K and V: no heavy entries",
          shape_parameters({spectrum_parameter()})};
}

class Gaussian final : public DescribedSource {
 public:
  Gaussian() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    const InputShapes shapes = generated_shapes(parameters);
    const int64_t rank = std::min({shapes.query.rows, shapes.key.rows, shapes.query.dim});
    if (parameters.has("spectrum") && rank == 1 && parameters.number("spectrum") != 1)
      fail_usage(
          "spectrum must be 1 where seq_len, key_len or head_dim is 1 (one singular value only), but is " +
          to_string(ParameterValue(parameters.number("spectrum"))));
    return shapes;
  }

  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t seed,
                                     uint32_t trial) const override {
    AttentionInputs inputs = normal_inputs(shapes(parameters), {seed, trial});
    if (!parameters.has("spectrum")) return inputs;
    for (Tensor<float>* tensor : {&inputs.query, &inputs.key})
      for (int64_t head = 0; head < tensor->shape().matrices(); ++head)
        shape_spectrum(tensor->matrix(head), parameters.number("spectrum"));
    return inputs;
  }
};

}  // namespace

const InputSource& gaussian_source() {
  static const Gaussian source;
  return source;
}

}  // namespace hyperattn
