#include "algorithms/primitives/covariance.h"

#include <algorithm>
#include <vector>

#include "algorithms/kernels/products.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kChunk = KeyParts::kChunk;

/// Σ over parts, each a row of `width` doubles that `add(part, sums)` fills, divided by the keys.
template <class Add>
std::vector<float> mean_over_parts(const KeyParts& parts, int64_t width, const Add& add) {
  std::vector<double> sums(static_cast<size_t>(parts.count() * width), 0.0);
  parallel_for(parts.count(), [&](int64_t part, int) { add(part, sums.data() + part * width); });
  return mean_of_parts(parts, sums);
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

  [[nodiscard]] std::vector<float> over(const KeyParts& parts) const {
    return mean_over_parts(parts, a_.cols * b_.cols, [&](int64_t part, double* sums) {
      GramProduct product(kChunk, a_.cols, b_.cols);
      for (int64_t first = parts.first(part); first < parts.last(part); first += kChunk)
        add_chunk(first, std::min(kChunk, parts.last(part) - first), product, sums);
    });
  }

 private:
  void add_chunk(int64_t first, int64_t count, GramProduct& product, double* sums) const {
    centre(a_, first, count, mean_a_, a_.cols, product.a());
    centre(b_, first, count, mean_b_, product.b_stride(), product.b());
    const float* chunk = product.multiply(count);
    for (int64_t i = 0; i < a_.cols; ++i)
      for (int64_t j = 0; j < b_.cols; ++j)
        sums[i * b_.cols + j] += static_cast<double>(chunk[i * product.b_stride() + j]);
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

/// On the host.
class HostKeySums final : public KeySums {
 public:
  HostKeySums(const AttentionProblem& problem, int64_t head, const AttentionNode& node)
      : parts_(node), keys_(problem.keys_of(head)), values_(problem.values_of(head)) {}

  [[nodiscard]] std::vector<float> mean(bool of_values) const override {
    const MatrixView<const float> rows = of_values ? values_ : keys_;
    return mean_over_parts(parts_, rows.cols, [&](int64_t part, double* sums) {
      for (int64_t i = parts_.first(part); i < parts_.last(part); ++i)
        for (int64_t c = 0; c < rows.cols; ++c) sums[c] += static_cast<double>(rows.row(i)[c]);
    });
  }

  [[nodiscard]] std::vector<float> squares(const std::vector<float>& centre) const override {
    std::vector<float> sums(centre.size(), 0.0F);
    for (int64_t i = parts_.begin; i < parts_.end; i += KeyParts::kVarianceStep)
      for (int64_t c = 0; c < keys_.cols; ++c) {
        const float deviation = keys_.row(i)[c] - centre[static_cast<size_t>(c)];
        sums[static_cast<size_t>(c)] += deviation * deviation;
      }
    return sums;
  }

  [[nodiscard]] std::vector<float> covariance(bool with_values, const std::vector<float>& mean_key,
                                              const std::vector<float>& other_mean) const override {
    return Covariance(keys_, mean_key, with_values ? values_ : keys_, other_mean).over(parts_);
  }

 private:
  KeyParts parts_;
  MatrixView<const float> keys_;
  MatrixView<const float> values_;
};

}  // namespace

std::vector<float> mean_of_parts(const KeyParts& parts, const std::vector<double>& sums) {
  const size_t width = sums.size() / static_cast<size_t>(parts.count());
  std::vector<float> mean;
  for (size_t c = 0; c < width; ++c) {
    double total = 0;
    for (size_t i = c; i < sums.size(); i += width) total += sums[i];
    mean.push_back(static_cast<float>(total / static_cast<double>(parts.end - parts.begin)));
  }
  return mean;
}

KeyMoments key_moments(const KeySums& sums) {
  KeyMoments moments;
  moments.mean_key = sums.mean(false);
  moments.mean_value = sums.mean(true);
  moments.covariance = sums.covariance(false, moments.mean_key, moments.mean_key);
  moments.cross_covariance = sums.covariance(true, moments.mean_key, moments.mean_value);
  return moments;
}

KeyMoments key_moments(const AttentionProblem& problem, int64_t head, const AttentionNode& node) {
  return key_moments(HostKeySums(problem, head, node));
}

LinearValues missed_covariance(const KeySums& sums, const AttentionNode& node, const SyntheticKeys& runs) {
  // Both covariances are taken about the same point; that of the runs' means spares a pass over all keys.
  const std::vector<float> mean_key = mean_of_runs(runs, runs.key.view().matrix(0));
  const std::vector<float> mean_value = mean_of_runs(runs, runs.value.view().matrix(0));
  const int64_t taken = (node.key_count() + KeyParts::kVarianceStep - 1) / KeyParts::kVarianceStep;
  LinearValues linear;
  linear.variance = sums.squares(mean_key);
  for (float& variance : linear.variance) variance /= static_cast<float>(taken);
  linear.cross_covariance = sums.covariance(true, mean_key, mean_value);
  subtract_covariance_of_means(runs, mean_key, mean_value, linear);
  for (float& variance : linear.variance) variance = std::max(variance, 0.0F);
  return linear;
}

LinearValues missed_covariance(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                               const SyntheticKeys& runs) {
  return missed_covariance(HostKeySums(problem, head, node), node, runs);
}

}  // namespace hyperattn
