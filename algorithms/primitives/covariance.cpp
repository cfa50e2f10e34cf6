#include "algorithms/primitives/covariance.h"

#include <algorithm>
#include <vector>

#include "algorithms/kernels/products.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kChunk = 256;  // keys centred at a time
constexpr int64_t kVarianceStep = 16;
constexpr int64_t kMostParts = 32;  // parts have sums of their own, which are added in order

/// Keys [begin, end) of a node, cut into parts for threads; the same whatever their number.
struct Parts {
  int64_t begin;
  int64_t end;
  int64_t size;

  explicit Parts(const AttentionNode& node)
      : begin(node.key_begin),
        end(node.key_end),
        size(((node.key_count() + kMostParts - 1) / kMostParts + kChunk - 1) / kChunk * kChunk) {}

  [[nodiscard]] int64_t count() const { return (end - begin + size - 1) / size; }
  [[nodiscard]] int64_t first(int64_t part) const { return begin + part * size; }
  [[nodiscard]] int64_t last(int64_t part) const { return std::min(end, first(part) + size); }
};

/// Σ over parts, each a vector of `width` doubles that `add(part, sums)` fills, divided by the keys.
template <class Add>
std::vector<float> mean_over_parts(const Parts& parts, int64_t width, const Add& add) {
  std::vector<std::vector<double>> sums(static_cast<size_t>(parts.count()));
  parallel_for(parts.count(), [&](int64_t part, int) {
    std::vector<double>& mine = sums[static_cast<size_t>(part)];
    mine.assign(static_cast<size_t>(width), 0.0);
    add(part, mine);
  });
  std::vector<float> mean;
  for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
    double total = 0;
    for (const std::vector<double>& part : sums) total += part[c];
    mean.push_back(static_cast<float>(total / static_cast<double>(parts.end - parts.begin)));
  }
  return mean;
}

std::vector<float> mean_row(const Parts& parts, MatrixView<const float> rows) {
  return mean_over_parts(parts, rows.cols, [&](int64_t part, std::vector<double>& sums) {
    for (int64_t i = parts.first(part); i < parts.last(part); ++i)
      for (int64_t c = 0; c < rows.cols; ++c)
        sums[static_cast<size_t>(c)] += static_cast<double>(rows.row(i)[c]);
  });
}

/// Mean square of the columns about `centre` over every kVarianceStep-th key.
std::vector<float> column_variances(const AttentionNode& node, MatrixView<const float> rows,
                                    const std::vector<float>& centre) {
  std::vector<float> sums(static_cast<size_t>(rows.cols), 0.0F);
  for (int64_t i = node.key_begin; i < node.key_end; i += kVarianceStep)
    for (int64_t c = 0; c < rows.cols; ++c) {
      const float deviation = rows.row(i)[c] - centre[static_cast<size_t>(c)];
      sums[static_cast<size_t>(c)] += deviation * deviation;
    }
  const auto count = static_cast<float>((node.key_count() + kVarianceStep - 1) / kVarianceStep);
  for (float& sum : sums) sum /= count;
  return sums;
}

/// Mean of the runs' means, each counted as its members.
std::vector<float> mean_of_runs(const SyntheticKeys& runs, MatrixView<const float> means) {
  std::vector<double> sums(static_cast<size_t>(means.cols), 0.0);
  for (int64_t run = 0; run < means.rows; ++run) {
    const auto i = static_cast<size_t>(run);
    const auto members = static_cast<double>(runs.member_begin[i + 1] - runs.member_begin[i]);
    for (int64_t c = 0; c < means.cols; ++c)
      sums[static_cast<size_t>(c)] += members * static_cast<double>(means.row(run)[c]);
  }
  std::vector<float> mean;
  for (const double sum : sums)
    mean.push_back(static_cast<float>(sum / static_cast<double>(runs.member_begin.back())));
  return mean;
}

/// Rows minus their mean, as a row-major matrix of `columns` ≥ width, with zeros beyond.
void centre(MatrixView<const float> rows, int64_t first, int64_t count, const std::vector<float>& mean,
            int64_t columns, float* centred) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows.row(first + i);
    for (int64_t c = 0; c < rows.cols; ++c) centred[i * columns + c] = row[c] - mean[static_cast<size_t>(c)];
    std::fill(centred + i * columns + rows.cols, centred + (i + 1) * columns, 0.0F);
  }
}

/// Covariance of two sets of columns over the same rows: Σ (a − ā)ᵀ(b − b̄) / rows, a's columns × b's.
class Covariance {
 public:
  Covariance(MatrixView<const float> a, const std::vector<float>& mean_a, MatrixView<const float> b,
             const std::vector<float>& mean_b)
      : a_(a), b_(b), mean_a_(mean_a), mean_b_(mean_b) {}

  [[nodiscard]] std::vector<float> over(const Parts& parts) const {
    return mean_over_parts(parts, a_.cols * b_.cols, [&](int64_t part, std::vector<double>& sums) {
      GramProduct product(kChunk, a_.cols, b_.cols);
      for (int64_t first = parts.first(part); first < parts.last(part); first += kChunk)
        add_chunk(first, std::min(kChunk, parts.last(part) - first), product, sums);
    });
  }

 private:
  void add_chunk(int64_t first, int64_t count, GramProduct& product, std::vector<double>& sums) const {
    centre(a_, first, count, mean_a_, a_.cols, product.a());
    centre(b_, first, count, mean_b_, product.b_stride(), product.b());
    const float* chunk = product.multiply(count);
    for (int64_t i = 0; i < a_.cols; ++i)
      for (int64_t j = 0; j < b_.cols; ++j)
        sums[static_cast<size_t>(i * b_.cols + j)] += static_cast<double>(chunk[i * product.b_stride() + j]);
  }

  MatrixView<const float> a_;
  MatrixView<const float> b_;
  const std::vector<float>& mean_a_;
  const std::vector<float>& mean_b_;
};

/// Takes away what the runs' means have of the covariances: Σ share·(k̄ − mean)ᵀ(v̄ − mean).
void subtract_covariance_of_means(const SyntheticKeys& runs, const std::vector<float>& mean_key,
                                  const std::vector<float>& mean_value, LinearValues& linear) {
  const MatrixView<const float> keys = runs.key.matrix(0);
  const MatrixView<const float> values = runs.value.matrix(0);
  GramProduct product(kChunk, keys.cols, values.cols);
  std::vector<double> sums(linear.cross_covariance.size(), 0.0);
  for (int64_t first = 0; first < keys.rows; first += kChunk) {
    const int64_t count = std::min(kChunk, keys.rows - first);
    centre(keys, first, count, mean_key, keys.cols, product.a());
    centre(values, first, count, mean_value, product.b_stride(), product.b());
    for (int64_t i = 0; i < count; ++i) {
      const auto run = static_cast<size_t>(first + i);
      const float share = static_cast<float>(runs.member_begin[run + 1] - runs.member_begin[run]) /
                          static_cast<float>(runs.member_begin.back());
      float* deviation = product.a() + i * keys.cols;
      for (int64_t a = 0; a < keys.cols; ++a) {
        linear.variance[static_cast<size_t>(a)] -= share * deviation[a] * deviation[a];
        deviation[a] *= share;
      }
    }
    const float* chunk = product.multiply(count);
    for (int64_t a = 0; a < keys.cols; ++a)
      for (int64_t b = 0; b < values.cols; ++b)
        sums[static_cast<size_t>(a * values.cols + b)] +=
            static_cast<double>(chunk[a * product.b_stride() + b]);
  }
  for (size_t c = 0; c < sums.size(); ++c) linear.cross_covariance[c] -= static_cast<float>(sums[c]);
}

}  // namespace

KeyMoments key_moments(const AttentionProblem& problem, int64_t head, const AttentionNode& node) {
  const MatrixView<const float> keys = problem.keys_of(head);
  const MatrixView<const float> values = problem.values_of(head);
  const Parts parts(node);
  KeyMoments moments;
  moments.mean_key = mean_row(parts, keys);
  moments.mean_value = mean_row(parts, values);
  moments.covariance = Covariance(keys, moments.mean_key, keys, moments.mean_key).over(parts);
  moments.cross_covariance = Covariance(keys, moments.mean_key, values, moments.mean_value).over(parts);
  return moments;
}

LinearValues missed_covariance(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                               const SyntheticKeys& runs) {
  const MatrixView<const float> keys = problem.keys_of(head);
  const MatrixView<const float> values = problem.values_of(head);
  const Parts parts(node);
  // Both covariances are taken about the same point; that of the runs' means spares a pass over all keys.
  const std::vector<float> mean_key = mean_of_runs(runs, runs.key.view().matrix(0));
  const std::vector<float> mean_value = mean_of_runs(runs, runs.value.view().matrix(0));
  LinearValues linear;
  linear.variance = column_variances(node, keys, mean_key);
  linear.cross_covariance = Covariance(keys, mean_key, values, mean_value).over(parts);
  subtract_covariance_of_means(runs, mean_key, mean_value, linear);
  for (float& variance : linear.variance) variance = std::max(variance, 0.0F);
  return linear;
}

}  // namespace hyperattn
