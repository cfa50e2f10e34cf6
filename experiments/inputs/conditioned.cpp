// Inputs whose condition number κ (the paper's: the ratio of the largest to the smallest row sum of exp of
// the scaled scores, here under the empty mask) has a wanted value.
//
// Both constructions give row i of a head the log-sum-exp
//     target_i = log n_k + ½ + log κ · u_i,   u a random order of n_q evenly spaced numbers from 0 to 1,
// so log κ = max target − min target. Starting from standard normal Q, K and V:
// - temperature: K is centred, so log Σ_j exp(t·x_ij) is log n_k at t = 0 and increases with t ≥ 0; the t_i
//   that meets the target scales query row i. Large κ makes rows sharp.
// - shift: the last coordinate of every key is 1 and that of query i adds a constant to its scores. κ changes
//   and the softmax matrix does not: a control.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/eigen.h"
#include "core/error.h"
#include "core/matrix_algebra.h"
#include "core/parallel.h"
#include "experiments/inputs/described_source.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr uint32_t kOrderNode = 3;
// Of a row's log-sum-exp. The wanted κ is promised to 1e-3; the rounding of float scores costs about 1e-5.
constexpr double kTolerance = 1e-5;
constexpr int kMaxSteps = 200;
// Cosine below which a query counts as orthogonal to all keys.
constexpr float kSmallestCosine = 1e-3F;

using Scores = RowMajorMatrix<float>;

/// Σ_j exp(t·x_j − shift) and its derivative in t; float exponentials, sums in double.
struct ExpSum {
  double sum = 0;
  double slope = 0;
};

ExpSum exp_sum(const float* scores, int64_t count, double t, double shift) {
  constexpr int64_t kChunk = 256;
  ExpSum total;
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const Eigen::Map<const Eigen::ArrayXf> x(scores + begin, std::min(kChunk, count - begin));
    const Eigen::Array<float, Eigen::Dynamic, 1, 0, kChunk> e =
        (x * static_cast<float>(t) - static_cast<float>(shift)).exp();
    total.sum += static_cast<double>(e.sum());
    total.slope += static_cast<double>((e * x).sum());
  }
  return total;
}

double log_sum_exp(const float* scores, int64_t count, double largest) {
  return largest + std::log(exp_sum(scores, count, 1, largest).sum);
}

/// The t > 0 with log Σ_j exp(t·x_j) = target, for scores with mean 0 and target > log count: Newton's method
/// on a convex increasing function, kept inside a shrinking bracket by bisection.
double solve_temperature(const float* scores, int64_t count, double target) {
  const Eigen::Map<const Eigen::ArrayXf> x(scores, count);
  const auto largest = static_cast<double>(x.maxCoeff());
  if (!(largest > 0)) fail_usage("source conditioned: a query row has the same score with every key");
  double low = 0;
  double high = target / largest;  // log Σ exp(t·x_j) ≥ t·max x
  const double variance = x.square().cast<double>().mean();
  double t = std::min(high, std::sqrt(2 * (target - std::log(static_cast<double>(count))) / variance));
  for (int step = 0; step < kMaxSteps && high - low > 1e-12 * high; ++step) {
    const double shift = t * largest;
    const ExpSum e = exp_sum(scores, count, t, shift);
    const double excess = shift + std::log(e.sum) - target;
    if (std::abs(excess) < kTolerance) break;
    (excess > 0 ? high : low) = t;
    const double newton = t - excess * e.sum / e.slope;
    t = low < newton && newton < high ? newton : 0.5 * (low + high);
  }
  return t;
}

void set_last_column(MatrixView<float> matrix, float value) {
  for (int64_t row = 0; row < matrix.rows; ++row) matrix.row(row)[matrix.cols - 1] = value;
}

void centre_columns(MatrixView<float> matrix) {
  auto rows = as_eigen(matrix);
  const Eigen::RowVectorXd mean = rows.cast<double>().colwise().mean();
  rows = (rows.cast<double>().rowwise() - mean).cast<float>();
}

/// Calls body(row, scores) with the scaled scores of each query row against all keys, in parallel.
template <class Body>
void for_each_score_row(MatrixView<const float> query, MatrixView<const float> key, double scale,
                        const Body& body) {
  const int64_t tasks = (query.rows + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(tasks, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    const int64_t rows = std::min(kRowsPerTask, query.rows - begin);
    Scores scores(rows, key.rows);
    multiply_transposed(rows_between(query, begin, begin + rows), key, view_of(scores));
    scores *= static_cast<float>(scale);
    for (int64_t i = 0; i < rows; ++i) body(begin + i, scores.row(i).data());
  });
}

/// Row → wanted log-sum-exp.
std::vector<double> draw_targets(const RandomStream& stream, int64_t queries, int64_t keys, double kappa) {
  std::vector<double> targets(static_cast<size_t>(queries));
  for (int64_t i = 0; i < queries; ++i) {
    const double share = queries == 1 ? 0 : static_cast<double>(i) / static_cast<double>(queries - 1);
    targets[static_cast<size_t>(i)] = std::log(static_cast<double>(keys)) + 0.5 + share * std::log(kappa);
  }
  for (int64_t i = queries - 1; i > 0; --i)
    std::swap(targets[static_cast<size_t>(i)],
              targets[stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
  return targets;
}

/// The keys are centred.
void apply_temperature(MatrixView<float> query, MatrixView<const float> key, double scale,
                       const std::vector<double>& targets) {
  Eigen::Index longest = 0;
  const float key_norm = as_eigen(key).rowwise().norm().maxCoeff(&longest);
  for_each_score_row(query, key, scale, [&](int64_t row, const float* scores) {
    auto q = as_eigen(query).row(row);
    // A query that is all but orthogonal to every key (there are few then) would need so large a temperature
    // that the rounding of its entries outweighs its scores: it is turned towards a key.
    Eigen::RowVectorXf turned_scores;
    const float unit = std::abs(static_cast<float>(scale)) * q.norm() * key_norm;
    if (*std::max_element(scores, scores + key.rows) < kSmallestCosine * unit) {
      q += q.norm() / key_norm * as_eigen(key).row(longest);
      turned_scores = static_cast<float>(scale) * q * as_eigen(key).transpose();
      scores = turned_scores.data();
    }
    const double t = solve_temperature(scores, key.rows, targets[static_cast<size_t>(row)]);
    q = (t * q.cast<double>()).cast<float>();
  });
}

/// The last column of the keys is 1.
void apply_shift(MatrixView<float> query, MatrixView<const float> key, double scale,
                 const std::vector<double>& targets) {
  const int64_t last = query.cols - 1;
  for (int64_t i = 0; i < query.rows; ++i) query.row(i)[last] = 0;
  for_each_score_row(query, key, scale, [&](int64_t row, const float* scores) {
    const auto largest = static_cast<double>(*std::max_element(scores, scores + key.rows));
    const double lse = log_sum_exp(scores, key.rows, largest);
    query.row(row)[last] = static_cast<float>((targets[static_cast<size_t>(row)] - lse) / scale);
  });
}

std::vector<ParameterSpec> own_parameters() {
  return {
      number_parameter(
          "condition_number",
          "the paper's kappa under the empty mask: largest over smallest row sum, met to 1e-3 relative")
          .between(1, 1e12),
      choice_parameter(
          "construction", {"temperature", "shift"},
          "temperature: one scale per query row; shift: a constant per row's scores in an extra dimension, "
          "which leaves the softmax matrix as it is"),
      number_parameter("scale", "the problem's scale, for which kappa is met; default 1/sqrt(head_dim)")
          .or_absent(),
  };
}

SourceDescription description() {
  return {"conditioned", "inputs built so that the condition number kappa under the empty mask is as wanted",
          shape_parameters(own_parameters())};
}

class Conditioned final : public DescribedSource {
 public:
  Conditioned() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    const InputShapes shapes = generated_shapes(parameters);
    const double kappa = parameters.number("condition_number");
    if (shapes.key.rows == 1)
      fail_usage("source conditioned needs at least 2 keys, but key_len is 1: one key has no condition");
    if (shapes.query.rows == 1 && kappa != 1)
      fail_usage("condition_number is a ratio of rows and must be 1 where seq_len is 1, but is " +
                 to_string(ParameterValue(kappa)));
    if (parameters.text("construction") == "shift" && shapes.query.dim < 2)
      fail_usage(
          "construction: shift uses one extra dimension and needs head_dim of at least 2, but it is 1");
    if (scale(parameters) == 0) fail_usage("source conditioned needs a scale other than 0");
    return shapes;
  }

  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t seed,
                                     uint32_t trial) const override {
    AttentionInputs inputs = normal_inputs(shapes(parameters), {seed, trial});
    const bool shift = parameters.text("construction") == "shift";
    for (int64_t head = 0; head < inputs.key.shape().matrices(); ++head)
      if (shift)
        set_last_column(inputs.key.matrix(head), 1);
      else
        centre_columns(inputs.key.matrix(head));
    const TensorShape& queries = inputs.query.shape();
    for (int64_t head = 0; head < queries.matrices(); ++head) {
      const RandomStream order(seed, Purpose::query, trial, static_cast<uint32_t>(head), kOrderNode);
      const std::vector<double> targets =
          draw_targets(order, queries.rows, inputs.key.shape().rows, parameters.number("condition_number"));
      (shift ? apply_shift : apply_temperature)(
          inputs.query.matrix(head), inputs.key.matrix(inputs.key_head(head)), scale(parameters), targets);
    }
    return inputs;
  }

 private:
  static double scale(const Parameters& parameters) {
    if (parameters.has("scale")) return parameters.number("scale");
    return 1 / std::sqrt(static_cast<double>(parameters.integer("head_dim")));
  }
};

}  // namespace

const InputSource& conditioned_source() {
  static const Conditioned source;
  return source;
}

}  // namespace hyperattn
