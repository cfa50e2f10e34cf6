#include "algorithms/primitives/key_tree.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "algorithms/kernels/packing.h"
#include "algorithms/kernels/routing.h"
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

/// The same as signed numbers, which are what `ranks` takes.
int32_t signed_bits(uint32_t ordered) {
  return static_cast<int32_t>(ordered ^ 0x80000000U);
}

struct Projected {
  uint32_t place;
  int32_t row;
};

/// Stable, by place, in passes over `kBits` bits each.
template <int kBits>
void radix_sort(std::vector<Projected>& items, std::vector<Projected>& spare) {
  constexpr uint32_t kBuckets = 1U << kBits;
  spare.resize(items.size());
  for (int shift = 0; shift < 32; shift += kBits) {
    std::array<uint32_t, kBuckets + 1> begin{};
    for (const Projected& item : items) ++begin[((item.place >> shift) & (kBuckets - 1)) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    for (const Projected& item : items) spare[begin[(item.place >> shift) & (kBuckets - 1)]++] = item;
    items.swap(spare);
  }
}

/// Few ones by their ranks, which are counted.
void rank_sort(std::vector<Projected>& items, std::vector<Projected>& spare) {
  std::array<int32_t, kMostRanked> numbers{};
  std::array<int32_t, kMostRanked> ranks{};
  for (size_t i = 0; i < items.size(); ++i) numbers[i] = signed_bits(items[i].place);
  routing_kernels().ranks(numbers.data(), static_cast<int64_t>(items.size()), ranks.data());
  spare.resize(items.size());
  for (size_t i = 0; i < items.size(); ++i) spare[static_cast<size_t>(ranks[i])] = items[i];
  items.swap(spare);
}

void stable_sort_by_place(std::vector<Projected>& items, std::vector<Projected>& spare) {
  constexpr size_t kFew = 1024;  // below, counting 2048 buckets thrice costs more than 256 four times
  if (items.size() <= static_cast<size_t>(kMostRanked))
    rank_sort(items, spare);
  else if (items.size() <= kFew)
    radix_sort<8>(items, spare);
  else
    radix_sort<11>(items, spare);
}

/// Halves segments of keys.
class Halving {
 public:
  Halving(MatrixView<const float> keys, std::vector<int32_t>& order)
      : keys_(keys),
        order_(order),
        direction_(static_cast<size_t>(keys.cols)),
        places_(static_cast<size_t>(kDirectionKeys)),
        deviations_(static_cast<size_t>(kDirectionKeys * keys.cols)) {}

  /// Sorts ranks [begin, end) along the direction in which a sample of them spreads.
  void sort(int64_t begin, int64_t end) {
    find_direction(begin, end);
    const auto count = static_cast<size_t>(end - begin);
    int32_t* rows = order_.data() + begin;
    if (places_.size() < count) places_.resize(count);
    project(keys_, rows, end - begin);
    items_.resize(count);
    for (size_t i = 0; i < count; ++i) items_[i] = {ordered_bits(places_[i]), rows[i]};
    stable_sort_by_place(items_, spare_);
    for (size_t i = 0; i < count; ++i) rows[i] = items_[i].row;
  }

 private:
  /// places_ ← products of rows (those named, or the first `count`) with the direction.
  void project(MatrixView<const float> rows, const int32_t* names, int64_t count) {
    ProjectArguments product;
    product.data = rows.data;
    product.stride = rows.stride;
    product.rows = names;
    product.count = count;
    product.depth = rows.cols;
    product.direction = direction_.data();
    product.products = places_.data();
    routing_kernels().project(product);
  }

  void take_deviations(int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    taken_ = std::min(count, kDirectionKeys);
    for (int64_t i = 0; i < taken_; ++i) {
      taken_rows_[static_cast<size_t>(i)] = order_[static_cast<size_t>(begin + i * count / taken_)];
      prefetch_row(keys_.row(taken_rows_[static_cast<size_t>(i)]), keys_.cols);
    }
    DeviationArguments arguments;
    arguments.data = keys_.data;
    arguments.stride = keys_.stride;
    arguments.rows = taken_rows_.data();
    arguments.count = taken_;
    arguments.depth = keys_.cols;
    arguments.deviations = deviations_.data();
    routing_kernels().deviations(arguments);
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
    project({deviations_.data(), taken_, d, d}, nullptr, taken_);
    const float middle = median();
    for (int64_t i = 0; i < taken_; ++i) {
      float& place = places_[static_cast<size_t>(i)];
      place = place > middle ? 1.0F : -1.0F;
    }
    CombineArguments sum;
    sum.data = deviations_.data();
    sum.stride = sum.depth = d;
    sum.count = taken_;
    sum.factors = places_.data();
    sum.sum = direction_.data();
    routing_kernels().combine(sum);
    double square = 0;
    for (const float u : direction_) square += static_cast<double>(u * u);
    const float norm = std::max(static_cast<float>(std::sqrt(square)), kLeastNorm);
    for (float& u : direction_) u /= norm;
  }

  /// Of the first places: the mean of the two middle ones for an even count. By ranks, which are counted
  /// without branches.
  float median() {
    const auto count = static_cast<size_t>(taken_);
    std::array<int32_t, kDirectionKeys> numbers{};
    std::array<int32_t, kDirectionKeys> ranks{};
    for (size_t i = 0; i < count; ++i) numbers[i] = signed_bits(ordered_bits(places_[i]));
    routing_kernels().ranks(numbers.data(), taken_, ranks.data());
    std::array<float, kDirectionKeys> sorted{};
    for (size_t i = 0; i < count; ++i) sorted[static_cast<size_t>(ranks[i])] = places_[i];
    const float upper = sorted[count / 2];
    return count % 2 == 1 ? upper : 0.5F * (upper + sorted[count / 2 - 1]);
  }

  MatrixView<const float> keys_;
  std::vector<int32_t>& order_;
  std::vector<float> direction_;
  std::vector<float> places_;
  std::vector<float> deviations_;
  std::array<int32_t, kDirectionKeys> taken_rows_{};
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

/// The halves of a segment that are to be halved further.
Segments halves_of(int64_t begin, int64_t end, const std::vector<int64_t>& sizes) {
  Segments halves;
  const int64_t middle = begin + cut_of(end - begin, sizes);
  for (const auto& half : {std::pair(begin, middle), std::pair(middle, end)})
    if (half.second - half.first > sizes.back()) halves.push_back(half);
  return halves;
}

/// A segment and all below it, one thread and one part of the keys at a time: they stay in its cache.
void halve_all(Halving& halving, int64_t begin, int64_t end, const std::vector<int64_t>& sizes) {
  halving.sort(begin, end);
  for (const auto& [first, last] : halves_of(begin, end, sizes)) halve_all(halving, first, last, sizes);
}

/// Mean rows of segments from those of their children, each counted as its keys.
Tensor<float> mean_rows(const TreeLevel& level, const TreeLevel& children, TensorView<const float> finer) {
  const int64_t width = finer.shape.dim;
  Tensor<float> means({1, 1, level.count(), width});
  parallel_for((level.count() + kMeansChunk - 1) / kMeansChunk, [&](int64_t part, int) {
    std::vector<double> sums(static_cast<size_t>(width));
    for (int64_t s = part * kMeansChunk; s < std::min(level.count(), (part + 1) * kMeansChunk); ++s) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t child = level.children_begin(s); child < level.children_begin(s + 1); ++child) {
        const auto keys = static_cast<double>(children.keys(child));
        const float* row = finer.matrix(0).row(child);
        for (int64_t c = 0; c < width; ++c)
          sums[static_cast<size_t>(c)] += keys * static_cast<double>(row[c]);
      }
      const auto keys = static_cast<double>(level.keys(s));
      for (int64_t c = 0; c < width; ++c)
        means.matrix(0).row(s)[c] = static_cast<float>(sums[static_cast<size_t>(c)] / keys);
    }
  });
  return means;
}

std::shared_ptr<SyntheticKeys> means_of_means(const TreeLevel& level, const TreeLevel& children,
                                              const SyntheticKeys& finer) {
  auto means = std::make_shared<SyntheticKeys>();
  means->key = mean_rows(level, children, finer.key.view());
  means->value = mean_rows(level, children, finer.value.view());
  means->member_order = finer.member_order;
  means->member_begin = level.begins;
  return means;
}

/// Sums of squared deviations of keys from the means of their segments.
struct Deviations {
  std::vector<double> of_segment;
  std::vector<double> of_coordinate;
};

/// Sets what each segment has from add(segment, squares), which adds to `squares`, and what all have by
/// coordinate.
template <class Add>
Deviations sum_deviations(int64_t segments, int64_t d, const Add& add) {
  const int64_t parts = (segments + kMeansChunk - 1) / kMeansChunk;
  DenseMatrix<double> sums(parts, d);
  Deviations deviations;
  deviations.of_segment.resize(static_cast<size_t>(segments));
  parallel_for(parts, [&](int64_t part, int) {
    std::vector<float> squares(static_cast<size_t>(d));
    for (int64_t s = part * kMeansChunk; s < std::min(segments, (part + 1) * kMeansChunk); ++s) {
      std::fill(squares.begin(), squares.end(), 0.0F);
      add(s, squares.data());
      double trace = 0;
      for (int64_t c = 0; c < d; ++c) {
        const auto square = static_cast<double>(squares[static_cast<size_t>(c)]);
        sums(part, c) += square;
        trace += square;
      }
      deviations.of_segment[static_cast<size_t>(s)] = trace;
    }
  });
  for (int64_t c = 0; c < d; ++c) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += sums(part, c);
    deviations.of_coordinate.push_back(sum);
  }
  return deviations;
}

void add_squares(const float* row, const float* mean, float count, int64_t d, float* squares) {
  for (int64_t c = 0; c < d; ++c) {
    const float deviation = row[c] - mean[c];
    squares[c] += count * deviation * deviation;
  }
}

/// From the deviations of a level's children to its own: to those within the children come those of the
/// children's means.
void add_deviations_of_means(const TreeLevel& level, const TreeLevel& children, const SyntheticKeys& finer,
                             const SyntheticKeys& means, Deviations& deviations) {
  const int64_t d = means.key.shape().dim;
  Deviations between = sum_deviations(level.count(), d, [&](int64_t s, float* squares) {
    for (int64_t child = level.children_begin(s); child < level.children_begin(s + 1); ++child)
      add_squares(finer.key.matrix(0).row(child), means.key.matrix(0).row(s),
                  static_cast<float>(children.keys(child)), d, squares);
  });
  for (int64_t s = 0; s < level.count(); ++s)
    for (int64_t child = level.children_begin(s); child < level.children_begin(s + 1); ++child)
      between.of_segment[static_cast<size_t>(s)] += deviations.of_segment[static_cast<size_t>(child)];
  for (size_t c = 0; c < between.of_coordinate.size(); ++c)
    between.of_coordinate[c] += deviations.of_coordinate[c];
  deviations = std::move(between);
}

void set_spreads(const TreeLevel& level, const Deviations& deviations, SegmentMeans& means) {
  const auto count = static_cast<double>(level.begins.back());
  double total = 0;
  for (const double sum : deviations.of_coordinate) {
    means.variance.push_back(static_cast<float>(sum / count));
    total += sum;
  }
  for (int64_t s = 0; s < level.count(); ++s) {
    const double own = deviations.of_segment[static_cast<size_t>(s)] / static_cast<double>(level.keys(s));
    means.spread.push_back(total > 0 ? static_cast<float>(own / (total / count)) : 0.0F);
  }
}

}  // namespace

KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                          const std::vector<int64_t>& sizes) {
  KeyTree tree{rows_of(node), {}};
  const std::vector<int64_t> used = sizes_in_use(node.key_count(), sizes);
  Segments segments;
  if (node.key_count() > used.back()) segments.emplace_back(0, node.key_count());
  constexpr size_t kTasks = 16;  // large segments go one level at a time until there are so many
  while (!segments.empty() && segments.size() < kTasks) {
    parallel_for(static_cast<int64_t>(segments.size()), [&](int64_t i, int) {
      const auto [begin, end] = segments[static_cast<size_t>(i)];
      Halving(keys, tree.order).sort(begin, end);
    });
    Segments next;
    for (const auto& [begin, end] : segments)
      for (const auto& half : halves_of(begin, end, used)) next.push_back(half);
    segments = std::move(next);
  }
  parallel_for(static_cast<int64_t>(segments.size()), [&](int64_t i, int) {
    const auto [begin, end] = segments[static_cast<size_t>(i)];
    Halving halving(keys, tree.order);
    halve_all(halving, begin, end, used);
  });
  tree.levels = aligned_levels(node.key_count(), used);
  return tree;
}

std::vector<HalvingRound> halving_rounds(int64_t keys, const std::vector<int64_t>& sizes) {
  const std::vector<int64_t> used = sizes_in_use(keys, sizes);
  std::vector<HalvingRound> rounds;
  std::vector<int64_t> begins = {0, keys};
  while (true) {
    HalvingRound round;
    std::vector<int64_t> next = {0};
    for (size_t s = 0; s + 1 < begins.size(); ++s) {
      const int64_t count = begins[s + 1] - begins[s];
      round.sorted.push_back(count > used.back() ? 1 : 0);
      if (count > used.back()) next.push_back(begins[s] + cut_of(count, used));
      next.push_back(begins[s + 1]);
    }
    if (next.size() == begins.size()) return rounds;
    round.begins = std::exchange(begins, std::move(next));
    rounds.push_back(std::move(round));
  }
}

KeyTree positional_key_tree(const AttentionNode& node, const std::vector<int64_t>& sizes) {
  return {rows_of(node), aligned_levels(node.key_count(), sizes_in_use(node.key_count(), sizes))};
}

KeyTree clustered_key_tree(const BoundProblem& bound, MatrixView<const float> keys, const AttentionNode& node,
                           int64_t size, const RandomStream& stream) {
  const MatrixView<const float> own{keys.row(node.key_begin), node.key_count(), keys.cols, keys.stride};
  const int64_t wanted = std::max<int64_t>(1, node.key_count() / size);
  const DenseMatrix<float> centres = bound.kmeans_centres(own, wanted, stream);
  const std::vector<uint32_t> nearest = bound.best_centres(own, centres, 1, nearest_biases(centres));
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

KeyRuns last_level_runs(const KeyTree& tree) {
  const TreeLevel& level = tree.levels.back();
  KeyRuns runs;
  runs.members = tree.order;
  runs.begins = level.begins;
  runs.shares.resize(tree.order.size());
  for (int64_t segment = 0; segment < level.count(); ++segment)
    std::fill_n(runs.shares.begin() + runs.begin(segment), level.keys(segment),
                1.0F / static_cast<float>(level.keys(segment)));
  return runs;
}

std::vector<SegmentMeans> segment_means_of(const KeyTree& tree, KeyRuns runs,
                                           std::shared_ptr<SyntheticKeys> means,
                                           const AddSquares& add_squares) {
  means->member_order = RowOrder::list(std::move(runs.members));
  means->member_begin = std::move(runs.begins);
  const size_t levels = tree.levels.size();
  std::vector<SegmentMeans> all(levels);
  Deviations deviations;
  if (add_squares) deviations = sum_deviations(means->key.shape().rows, means->key.shape().dim, add_squares);
  all.back().means = std::move(means);
  if (add_squares) set_spreads(tree.levels.back(), deviations, all.back());
  for (size_t t = levels - 1; t-- > 0;) {
    const TreeLevel& level = tree.levels[t];
    const SyntheticKeys& finer = *all[t + 1].means;
    const auto own = means_of_means(level, tree.levels[t + 1], finer);
    all[t].means = own;
    if (!add_squares) continue;
    add_deviations_of_means(level, tree.levels[t + 1], finer, *own, deviations);
    set_spreads(level, deviations, all[t]);
  }
  return all;
}

std::vector<SegmentMeans> segment_means(const AttentionProblem& problem, int64_t head, const KeyTree& tree,
                                        bool spreads) {
  KeyRuns runs = last_level_runs(tree);
  const std::shared_ptr<SyntheticKeys> means = run_means(problem, head, runs);
  if (!spreads) return segment_means_of(tree, std::move(runs), means, {});
  const MatrixView<const float> keys = problem.keys_of(head);
  return segment_means_of(tree, std::move(runs), means, [&](int64_t segment, float* squares) {
    const TreeLevel& level = tree.levels.back();
    const auto s = static_cast<size_t>(segment);
    for (int64_t rank = level.begins[s]; rank < level.begins[s + 1]; ++rank)
      add_squares(keys.row(tree.order[static_cast<size_t>(rank)]), means->key.matrix(0).row(segment), 1,
                  keys.cols, squares);
  });
}

}  // namespace hyperattn
