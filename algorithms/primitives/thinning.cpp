#include "algorithms/primitives/thinning.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <utility>

#include "algorithms/kernels/products.h"
#include "core/eigen.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Pairs whose kernel rows are computed at once, and points that they are computed against.
constexpr int64_t kPairsAtOnce = kProductRows / 2;
constexpr int64_t kPanel = 128;

/// Rows of a halving's points in order, and kernel rows of some against all before them.
class HalvingKernel {
 public:
  HalvingKernel(const ThinningKernel& kernel, const std::vector<ThinnedKey>& points)
      : keys_(gather(kernel.keys, points)), values_(gather(kernel.values, points)) {
    const double log2_scale = std::numbers::log2e * std::abs(kernel.scale);
    double largest_key = 0;
    float largest_value = 0;
    for (int64_t i = 0; i < keys_.rows; ++i) {
      largest_key = std::max(largest_key, as_eigen(keys_).row(i).cast<double>().squaredNorm());
      if (values_.cols > 0)
        largest_value = std::max(largest_value, as_eigen(values_).row(i).cwiseAbs().maxCoeff());
    }
    // Values relative to the largest: b is 1, and nothing overflows.
    if (largest_value > 0) as_eigen(values_) /= largest_value;
    for (int64_t begin = 0; begin < keys_.rows; begin += kPanel) {
      const int64_t count = std::min(kPanel, keys_.rows - begin);
      key_panels_.emplace_back(rows_of(keys_, begin, count), static_cast<float>(log2_scale));
      value_panels_.emplace_back(rows_of(values_, begin, count));
    }
    key_bias_.assign(kPanel, static_cast<float>(-log2_scale * largest_key));
    value_bias_.assign(kPanel, 1.0F);
  }

  /// κ of points [begin, begin + count) with all before `end`: row-major, `stride()` apart.
  void rows(int64_t begin, int64_t count, int64_t end, float* out) {
    for (int64_t first = 0; first < end; first += kPanel) {
      const auto p = static_cast<size_t>(first / kPanel);
      const int64_t columns = key_panels_[p].columns();
      exponents_.resize(static_cast<size_t>(kProductRows * kPanel));
      products_.resize(exponents_.size());
      key_panels_[p].multiply(rows_of(keys_, begin, count), key_bias_.data(), exponents_.data());
      value_panels_[p].multiply(rows_of(values_, begin, count), value_bias_.data(), products_.data());
      exponentiate_base2(exponents_.data(), count * columns);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < key_panels_[p].count(); ++j)
          out[i * stride() + first + j] = exponents_[static_cast<size_t>(i * columns + j)] *
                                          products_[static_cast<size_t>(i * columns + j)];
    }
  }
  [[nodiscard]] int64_t stride() const { return keys_.rows; }

 private:
  static DenseMatrix<float> gather(MatrixView<const float> rows, const std::vector<ThinnedKey>& points) {
    DenseMatrix<float> gathered(static_cast<int64_t>(points.size()), rows.cols);
    for (int64_t i = 0; i < gathered.rows; ++i)
      std::copy_n(rows.row(points[static_cast<size_t>(i)].row), rows.cols, gathered.row(i));
    return gathered;
  }
  static MatrixView<const float> rows_of(const DenseMatrix<float>& matrix, int64_t begin, int64_t count) {
    return {matrix.row(begin), count, matrix.cols, matrix.cols};
  }

  DenseMatrix<float> keys_;
  DenseMatrix<float> values_;
  std::vector<PackedColumns> key_panels_;
  std::vector<PackedColumns> value_panels_;
  std::vector<float> key_bias_;
  std::vector<float> value_bias_;
  std::vector<float> exponents_;
  std::vector<float> products_;
};

/// The walk over pairs (points 2i and 2i + 1), and the sign of each: true where b is kept.
std::vector<bool> walk(const ThinningKernel& kernel, const std::vector<ThinnedKey>& points, double threshold,
                       const RandomStream& stream, uint64_t number) {
  const auto pairs = static_cast<int64_t>(points.size() / 2);
  HalvingKernel rows(kernel, points);
  std::vector<float> kappa(static_cast<size_t>(2 * kPairsAtOnce * rows.stride()));
  std::vector<double> signed_weight(points.size(), 0.0);  // of each point in W
  std::vector<bool> plus;
  double largest = 0;
  for (int64_t first = 0; first < pairs; first += kPairsAtOnce) {
    const int64_t end = std::min(pairs, first + kPairsAtOnce);
    rows.rows(2 * first, 2 * (end - first), 2 * end, kappa.data());
    for (int64_t i = first; i < end; ++i) {
      const auto a = static_cast<size_t>(2 * i);
      const double weight_a = std::exp2(points[a].halvings);
      const double weight_b = std::exp2(points[a + 1].halvings);
      const float* of_a = kappa.data() + 2 * (i - first) * rows.stride();
      const float* of_b = of_a + rows.stride();
      const auto f = [&](size_t point) {
        return weight_a * static_cast<double>(of_a[point]) - weight_b * static_cast<double>(of_b[point]);
      };
      double along = 0;
      for (size_t j = 0; j < a; ++j) along += signed_weight[j] * f(j);
      const double own = std::sqrt(std::max(weight_a * f(a) - weight_b * f(a + 1), 0.0));
      largest = std::max(largest, own);
      const double limit = threshold * own * largest;
      const double chance = limit > 0 ? 0.5 * (1 - along / limit) : 0.5;
      plus.push_back(stream.uniform(number + static_cast<uint64_t>(i)) < chance);
      const double sign = plus.back() ? 1 : -1;
      signed_weight[a] = sign * weight_a;
      signed_weight[a + 1] = -sign * weight_b;
    }
  }
  return plus;
}

/// A bucket between rounds.
struct Bucket {
  int64_t begin = 0;  ///< place of its first key in the sequence
  std::vector<ThinnedKey> points;
};

std::vector<Bucket> even_buckets(int64_t begin, int64_t end, int64_t count) {
  std::vector<Bucket> buckets(static_cast<size_t>(count));
  for (int64_t b = 0; b < count; ++b) {
    Bucket& bucket = buckets[static_cast<size_t>(b)];
    bucket.begin = (end - begin) * b / count;
    for (int64_t row = begin + bucket.begin; row < begin + (end - begin) * (b + 1) / count; ++row)
      bucket.points.push_back({static_cast<int32_t>(row), 0});
  }
  return buckets;
}

std::vector<Bucket> join_fours(const std::vector<Bucket>& buckets) {
  std::vector<Bucket> joined(buckets.size() / 4);
  for (size_t b = 0; b < joined.size(); ++b) {
    joined[b].begin = buckets[4 * b].begin;
    for (size_t i = 4 * b; i < 4 * b + 4; ++i)
      joined[b].points.insert(joined[b].points.end(), buckets[i].points.begin(), buckets[i].points.end());
  }
  return joined;
}

int64_t size_of(const Bucket& bucket) {
  return static_cast<int64_t>(bucket.points.size());
}

}  // namespace

ParameterSpec thinning_delta_parameter() {
  return number_parameter(
             "thinning_delta",
             "probability that a walk of the thinning leaves its thresholds: smaller means wider")
      .between(1e-12, 1)
      .by_default(0.5);
}

std::vector<ThinnedKey> halve(const ThinningKernel& kernel, const std::vector<ThinnedKey>& points,
                              int64_t pairs, const FailureShare& failure, const RandomStream& stream,
                              uint64_t number) {
  const auto all_pairs = static_cast<int64_t>(points.size() / 2);
  assert(0 <= pairs && pairs <= all_pairs);
  std::vector<ThinnedKey> paired;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < all_pairs; ++i) {
    if ((i + 1) * pairs / all_pairs == i * pairs / all_pairs) continue;
    chosen.push_back(i);
    paired.push_back(points[static_cast<size_t>(2 * i)]);
    paired.push_back(points[static_cast<size_t>(2 * i + 1)]);
  }
  const std::vector<bool> plus =
      walk(kernel, paired, 0.5 + std::log(2 * failure.pairs / failure.delta), stream, number);
  const bool other_half = stream.uniform(number + kChoiceOfHalf) < 0.5;
  std::vector<ThinnedKey> kept;
  size_t next = 0;
  for (int64_t i = 0; i < all_pairs; ++i) {
    const auto a = static_cast<size_t>(2 * i);
    if (next == chosen.size() || chosen[next] != i) {
      kept.push_back(points[a]);
      kept.push_back(points[a + 1]);
      continue;
    }
    ThinnedKey survivor = points[plus[next++] != other_half ? a + 1 : a];
    ++survivor.halvings;
    kept.push_back(survivor);
  }
  if (points.size() % 2 == 1) kept.push_back(points.back());
  return kept;
}

std::vector<ThinnedKey> thin_rows(const ThinningKernel& kernel, int64_t begin, int64_t end, int64_t keep,
                                  const FailureShare& failure, const RandomStream& stream) {
  const int64_t count = end - begin;
  assert(count >= 1 && keep >= 1);
  int64_t wanted_rounds = 0;
  while ((count >> wanted_rounds) > keep) ++wanted_rounds;
  int64_t buckets = 1;
  for (int64_t round = 0; round < wanted_rounds && 4 * buckets <= count; ++round) buckets *= 4;
  std::vector<Bucket> current = even_buckets(begin, end, buckets);
  for (uint64_t round = 0; current.size() > 1 || size_of(current.front()) > keep; ++round) {
    if (current.size() > 1) current = join_fours(current);
    const bool last = current.size() == 1;
    parallel_for(static_cast<int64_t>(current.size()), [&](int64_t b, int) {
      Bucket& bucket = current[static_cast<size_t>(b)];
      const int64_t all_pairs = size_of(bucket) / 2;
      const int64_t pairs = last ? std::min(all_pairs, size_of(bucket) - keep) : all_pairs;
      bucket.points = halve(kernel, bucket.points, pairs, failure, stream,
                            round * kNumbersOfRound + static_cast<uint64_t>(bucket.begin));
    });
  }
  return std::move(current.front().points);
}

std::vector<std::vector<ThinnedKey>> streamed_caches(const ThinningKernel& kernel, int64_t first,
                                                     int64_t rows, int64_t block, int64_t capacity,
                                                     double delta, const RandomStream& stream) {
  std::vector<std::vector<ThinnedKey>> caches = {{}};
  std::vector<ThinnedKey> cache;
  int32_t halvings = 0;  // of the cache
  uint64_t thinnings = 0;
  const auto own_stream = [&] { return RandomStream(stream.bits(thinnings++), Purpose::thinning); };
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t end = std::min(begin + block, rows);
    const int64_t count = end - std::max(begin, first);
    if (count <= 0) {
      caches.emplace_back();
      continue;
    }
    const FailureShare failure{delta, static_cast<double>(end) * static_cast<double>(end + 1)};
    const int64_t keep = std::max<int64_t>(halvings < 62 ? count >> halvings : 0, 1);
    for (const ThinnedKey& key : thin_rows(kernel, end - count, end, keep, failure, own_stream()))
      cache.push_back(key);
    while (static_cast<int64_t>(cache.size()) > capacity) {
      const auto pairs = static_cast<int64_t>(cache.size() / 2);
      cache = halve(kernel, cache, pairs, failure, own_stream(), 0);
      ++halvings;
    }
    caches.push_back(cache);
  }
  return caches;
}

ColumnSample as_sample(const std::vector<ThinnedKey>& keys, int64_t begin) {
  ColumnSample sample;
  for (const ThinnedKey& key : keys) {
    sample.rows.push_back(static_cast<int32_t>(key.row - begin));
    sample.log_weights.push_back(static_cast<float>(key.halvings * std::numbers::ln2));
  }
  return sample;
}

}  // namespace hyperattn
