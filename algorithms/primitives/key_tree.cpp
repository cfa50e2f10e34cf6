#include "algorithms/primitives/key_tree.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "algorithms/primitives/kmeans.h"
#include "algorithms/primitives/run_means.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kDirectionKeys = 64;
constexpr int kDirectionRounds = 3;
constexpr float kLeastNorm = 1e-20F;
constexpr int64_t kMeansChunk = 64;  // segments of a parallel step

/// Where a segment of `count` keys is cut: a multiple of the largest size below it, nearest to the middle
/// from above.
int64_t cut_of(int64_t count, const std::vector<int64_t>& sizes) {
  for (const int64_t size : sizes)
    if (size < count) return size * (((count + size - 1) / size + 1) / 2);
  return count;
}

/// Bits that order as the floats do, as unsigned numbers.
uint32_t ordered_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x + 0.0F);  // −0 is 0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

struct Projected {
  uint32_t place;
  int32_t row;
};

/// Stable, by place, in three passes over 11 bits each.
void radix_sort(std::vector<Projected>& items, std::vector<Projected>& spare) {
  constexpr int kBits = 11;
  constexpr uint32_t kBuckets = 1U << kBits;
  spare.resize(items.size());
  for (int shift = 0; shift < 32; shift += kBits) {
    std::vector<uint32_t> begin(kBuckets + 1, 0);
    for (const Projected& item : items) ++begin[((item.place >> shift) & (kBuckets - 1)) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    for (const Projected& item : items) spare[begin[(item.place >> shift) & (kBuckets - 1)]++] = item;
    items.swap(spare);
  }
}

void stable_sort_by_place(std::vector<Projected>& items, std::vector<Projected>& spare) {
  constexpr size_t kFew = 1024;  // below, counting 3 × 2048 buckets costs more than comparing
  if (items.size() > kFew) return radix_sort(items, spare);
  std::stable_sort(items.begin(), items.end(),
                   [](const Projected& a, const Projected& b) { return a.place < b.place; });
}

/// Halves segments of keys.
class Halving {
 public:
  Halving(MatrixView<const float> keys, std::vector<int32_t>& order)
      : keys_(keys), order_(order), direction_(static_cast<size_t>(keys.cols)) {}

  /// Sorts ranks [begin, end) along the direction in which a sample of them spreads.
  void sort(int64_t begin, int64_t end) {
    find_direction(begin, end);
    items_.clear();
    for (int64_t rank = begin; rank < end; ++rank) {
      const int32_t row = order_[static_cast<size_t>(rank)];
      items_.push_back({ordered_bits(product(keys_.row(row), direction_.data())), row});
    }
    stable_sort_by_place(items_, spare_);
    for (int64_t rank = begin; rank < end; ++rank)
      order_[static_cast<size_t>(rank)] = items_[static_cast<size_t>(rank - begin)].row;
  }

 private:
  [[nodiscard]] float product(const float* a, const float* b) const {
    constexpr int64_t kLanes = 8;  // partial sums of their own, so that the compiler can use vectors
    float sums[kLanes] = {};
    const int64_t whole = keys_.cols / kLanes * kLanes;
    for (int64_t c = 0; c < whole; c += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) sums[l] += a[c + l] * b[c + l];
    for (int64_t c = whole; c < keys_.cols; ++c) sums[c - whole] += a[c] * b[c];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }

  void take_deviations(int64_t begin, int64_t end) {
    const int64_t d = keys_.cols;
    const int64_t count = end - begin;
    taken_ = std::min(count, kDirectionKeys);
    deviations_.assign(static_cast<size_t>(taken_ * d), 0.0F);
    std::vector<float> mean(static_cast<size_t>(d), 0.0F);
    for (int64_t i = 0; i < taken_; ++i) {
      const float* key = keys_.row(order_[static_cast<size_t>(begin + i * count / taken_)]);
      for (int64_t c = 0; c < d; ++c) {
        deviations_[static_cast<size_t>(i * d + c)] = key[c];
        mean[static_cast<size_t>(c)] += key[c];
      }
    }
    for (float& m : mean) m /= static_cast<float>(taken_);
    for (int64_t i = 0; i < taken_; ++i)
      for (int64_t c = 0; c < d; ++c)
        deviations_[static_cast<size_t>(i * d + c)] -= mean[static_cast<size_t>(c)];
  }

  void find_direction(int64_t begin, int64_t end) {
    take_deviations(begin, end);
    const int64_t d = keys_.cols;
    for (int64_t c = 0; c < d; ++c)
      direction_[static_cast<size_t>(c)] = deviations_[static_cast<size_t>(c)] + 1e-6F;
    for (int round = 0; round < kDirectionRounds; ++round) improve_direction();
  }

  void improve_direction() {
    const int64_t d = keys_.cols;
    std::vector<float> places;
    for (int64_t i = 0; i < taken_; ++i)
      places.push_back(product(deviations_.data() + i * d, direction_.data()));
    const float middle = median(places);
    std::fill(direction_.begin(), direction_.end(), 0.0F);
    for (int64_t i = 0; i < taken_; ++i) {
      const float sign = places[static_cast<size_t>(i)] > middle ? 1.0F : -1.0F;
      const float* deviation = deviations_.data() + i * d;
      for (int64_t c = 0; c < d; ++c) direction_[static_cast<size_t>(c)] += sign * deviation[c];
    }
    const float norm = std::max(std::sqrt(product(direction_.data(), direction_.data())), kLeastNorm);
    for (float& u : direction_) u /= norm;
  }

  /// The mean of the two middle numbers for an even count.
  static float median(std::vector<float> x) {
    const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
    std::nth_element(x.begin(), middle, x.end());
    if (x.size() % 2 == 1) return *middle;
    return 0.5F * (*middle + *std::max_element(x.begin(), middle));
  }

  MatrixView<const float> keys_;
  std::vector<int32_t>& order_;
  std::vector<float> direction_;
  std::vector<float> deviations_;
  std::vector<Projected> items_;
  std::vector<Projected> spare_;
  int64_t taken_ = 0;
};

std::vector<int32_t> rows_of(const AttentionNode& node) {
  std::vector<int32_t> rows(static_cast<size_t>(node.key_count()));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(node.key_begin));
  return rows;
}

std::vector<int64_t> sizes_in_use(int64_t keys, const std::vector<int64_t>& sizes) {
  std::vector<int64_t> used;
  for (size_t t = 0; t < sizes.size(); ++t)
    if (sizes[t] < keys || t + 1 == sizes.size()) used.push_back(sizes[t]);
  return used;
}

std::vector<TreeLevel> aligned_levels(int64_t keys, const std::vector<int64_t>& sizes) {
  std::vector<TreeLevel> levels;
  for (const int64_t size : sizes) {
    TreeLevel level;
    level.size = size;
    for (int64_t begin = 0; begin < keys; begin += size) level.begins.push_back(begin);
    level.begins.push_back(keys);
    levels.push_back(std::move(level));
  }
  for (size_t t = 0; t + 1 < levels.size(); ++t) {
    const int64_t children = levels[t + 1].count();
    const int64_t each = levels[t].size / levels[t + 1].size;
    for (int64_t segment = 0; segment <= levels[t].count(); ++segment)
      levels[t].first_child.push_back(std::min(segment * each, children));
  }
  return levels;
}

using Segments = std::vector<std::pair<int64_t, int64_t>>;

Segments halves_of(const Segments& segments, const std::vector<int64_t>& sizes) {
  Segments halves;
  for (const auto& [begin, end] : segments) {
    const int64_t middle = begin + cut_of(end - begin, sizes);
    for (const auto& half : {std::pair(begin, middle), std::pair(middle, end)})
      if (half.second - half.first > sizes.back()) halves.push_back(half);
  }
  return halves;
}

}  // namespace

KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                          const std::vector<int64_t>& sizes) {
  KeyTree tree{rows_of(node), {}};
  const std::vector<int64_t> used = sizes_in_use(node.key_count(), sizes);
  Segments segments;
  if (node.key_count() > used.back()) segments.emplace_back(0, node.key_count());
  while (!segments.empty()) {
    const auto count = static_cast<int64_t>(segments.size());
    const int64_t each = std::max<int64_t>(1, count / 64);
    parallel_for((count + each - 1) / each, [&](int64_t part, int) {
      Halving halving(keys, tree.order);
      for (int64_t i = part * each; i < std::min(count, (part + 1) * each); ++i)
        halving.sort(segments[static_cast<size_t>(i)].first, segments[static_cast<size_t>(i)].second);
    });
    segments = halves_of(segments, used);
  }
  tree.levels = aligned_levels(node.key_count(), used);
  return tree;
}

KeyTree positional_key_tree(const AttentionNode& node, const std::vector<int64_t>& sizes) {
  return {rows_of(node), aligned_levels(node.key_count(), sizes_in_use(node.key_count(), sizes))};
}

KeyTree clustered_key_tree(MatrixView<const float> keys, const AttentionNode& node, int64_t size,
                           const RandomStream& stream) {
  const MatrixView<const float> own{keys.row(node.key_begin), node.key_count(), keys.cols, keys.stride};
  const int64_t wanted = std::max<int64_t>(1, node.key_count() / size);
  const DenseMatrix<float> centres = kmeans_centres(own, wanted, stream);
  const std::vector<uint32_t> nearest = best_centres(own, centres, 1, nearest_biases(centres));
  std::vector<std::vector<int32_t>> clusters(static_cast<size_t>(centres.rows));
  for (int64_t i = 0; i < own.rows; ++i)
    clusters[nearest[static_cast<size_t>(i)]].push_back(static_cast<int32_t>(node.key_begin + i));
  KeyTree tree;
  TreeLevel level;
  level.size = size;
  for (const std::vector<int32_t>& cluster : clusters) {
    if (cluster.empty()) continue;
    level.begins.push_back(static_cast<int64_t>(tree.order.size()));
    tree.order.insert(tree.order.end(), cluster.begin(), cluster.end());
  }
  level.begins.push_back(static_cast<int64_t>(tree.order.size()));
  tree.levels.push_back(std::move(level));
  return tree;
}

SegmentMeans segment_means(const AttentionProblem& problem, int64_t head, const KeyTree& tree,
                           const TreeLevel& level, bool spreads) {
  KeyRuns runs;
  runs.members = tree.order;
  runs.begins = level.begins;
  runs.shares.resize(tree.order.size());
  for (int64_t segment = 0; segment < level.count(); ++segment)
    std::fill_n(runs.shares.begin() + runs.begin(segment), level.keys(segment),
                1.0F / static_cast<float>(level.keys(segment)));
  std::shared_ptr<SyntheticKeys> means = run_means(problem, head, runs);
  means->member_order = RowOrder::list(std::move(runs.members));
  means->member_begin = std::move(runs.begins);
  SegmentMeans result;
  result.means = means;
  if (!spreads) return result;

  const MatrixView<const float> keys = problem.keys_of(head);
  const MatrixView<const float> mean_keys = result.means->key.matrix(0);
  const int64_t d = keys.cols;
  const int64_t parts = (level.count() + kMeansChunk - 1) / kMeansChunk;
  DenseMatrix<double> sums(parts, d);
  std::vector<double> trace(static_cast<size_t>(level.count()));
  parallel_for(parts, [&](int64_t part, int) {
    std::vector<float> squares(static_cast<size_t>(d));
    for (int64_t s = part * kMeansChunk; s < std::min(level.count(), (part + 1) * kMeansChunk); ++s) {
      std::fill(squares.begin(), squares.end(), 0.0F);
      for (int64_t rank = level.begins[static_cast<size_t>(s)];
           rank < level.begins[static_cast<size_t>(s) + 1]; ++rank) {
        const float* key = keys.row(tree.order[static_cast<size_t>(rank)]);
        const float* mean = mean_keys.row(s);
        for (int64_t c = 0; c < d; ++c) {
          const float deviation = key[c] - mean[c];
          squares[static_cast<size_t>(c)] += deviation * deviation;
        }
      }
      for (int64_t c = 0; c < d; ++c) {
        const auto square = static_cast<double>(squares[static_cast<size_t>(c)]);
        sums(part, c) += square;
        trace[static_cast<size_t>(s)] += square;
      }
    }
  });
  const auto count = static_cast<double>(tree.order.size());
  double total = 0;
  for (int64_t c = 0; c < d; ++c) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += sums(part, c);
    result.variance.push_back(static_cast<float>(sum / count));
    total += sum;
  }
  for (int64_t s = 0; s < level.count(); ++s) {
    const double own = trace[static_cast<size_t>(s)] / static_cast<double>(level.keys(s));
    result.spread.push_back(total > 0 ? static_cast<float>(own / (total / count)) : 0.0F);
  }
  return result;
}

}  // namespace hyperattn
