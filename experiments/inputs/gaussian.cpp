// Independent standard normal queries, keys and values: no heavy entries. Optionally with the singular values
// of Q and K spread geometrically to a wanted ratio.
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "experiments/inputs/described_source.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

using Matrix = RowMajorMatrix<double>;

// Above this the smallest singular value would drown in the rounding of the float entries.
constexpr double kMaxSingularValueRatio = 1e4;
constexpr int64_t kRowsPerTask = 1024;

ParameterSpec singular_value_ratio() {
  ParameterSpec spec;
  spec.name = "singular_value_ratio";
  spec.type = ParameterType::number;
  spec.meaning =
      "ratio of the largest to the smallest singular value of Q and of K, spaced geometrically (their "
      "ordinary condition number, not the paper's kappa); absent: as drawn";
  spec.minimum = 1;
  spec.maximum = kMaxSingularValueRatio;
  spec.optional = true;
  return spec;
}

Matrix gram(MatrixView<const float> matrix) {
  const int64_t tasks = (matrix.rows + kRowsPerTask - 1) / kRowsPerTask;
  std::vector<Matrix> partial(static_cast<size_t>(tasks));
  parallel_for(tasks, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    const Matrix rows =
        as_eigen(matrix).middleRows(begin, std::min(kRowsPerTask, matrix.rows - begin)).cast<double>();
    partial[static_cast<size_t>(task)] = rows.transpose() * rows;
  });
  Matrix total = Matrix::Zero(matrix.cols, matrix.cols);
  for (const Matrix& part : partial) total += part;
  return total;
}

/// X ← X W, where W keeps the singular vectors of X and its Frobenius norm, and spaces its singular values
/// geometrically with the wanted ratio. O(rows · cols²).
void shape_spectrum(MatrixView<float> matrix, double ratio) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(gram(matrix));  // eigenvalues in increasing order
  const int64_t dim = matrix.cols;
  Eigen::VectorXd wanted(dim);
  for (int64_t i = 0; i < dim; ++i)
    wanted[i] = dim == 1 ? 1 : std::pow(ratio, static_cast<double>(i) / static_cast<double>(dim - 1));
  const Eigen::VectorXd present = solver.eigenvalues().cwiseMax(0).cwiseSqrt();
  wanted *= present.norm() / wanted.norm();
  const Matrix transform =
      solver.eigenvectors() * wanted.cwiseQuotient(present).asDiagonal() * solver.eigenvectors().transpose();
  parallel_for((matrix.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    auto rows = as_eigen(matrix).middleRows(begin, std::min(kRowsPerTask, matrix.rows - begin));
    rows = (rows.cast<double>() * transform).cast<float>();
  });
}

SourceDescription description() {
  return {"gaussian", "independent standard normal Q, K and V: no heavy entries",
          shape_parameters({singular_value_ratio()})};
}

class Gaussian final : public DescribedSource {
 public:
  Gaussian() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    const InputShapes shapes = generated_shapes(parameters);
    const int64_t rows = std::min(shapes.query.rows, shapes.key.rows);
    if (parameters.has("singular_value_ratio") && rows < shapes.query.dim)
      fail_usage("singular_value_ratio needs at least head_dim rows in Q and in K, but head_dim is " +
                 std::to_string(shapes.query.dim) + " and there are " + std::to_string(rows) + " rows");
    if (parameters.has("singular_value_ratio") && shapes.query.dim == 1 &&
        parameters.number("singular_value_ratio") != 1)
      fail_usage("singular_value_ratio must be 1 where head_dim is 1 (there is one singular value only)");
    return shapes;
  }

  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t seed,
                                     uint32_t trial) const override {
    AttentionInputs inputs = normal_inputs(shapes(parameters), {seed, trial});
    if (!parameters.has("singular_value_ratio")) return inputs;
    for (Tensor<float>* tensor : {&inputs.query, &inputs.key})
      for (int64_t head = 0; head < tensor->shape().matrices(); ++head)
        shape_spectrum(tensor->matrix(head), parameters.number("singular_value_ratio"));
    return inputs;
  }
};

}  // namespace

const InputSource& gaussian_source() {
  static const Gaussian source;
  return source;
}

}  // namespace hyperattn
