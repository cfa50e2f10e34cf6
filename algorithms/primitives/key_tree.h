// Keys in an order in which every segment of a few sizes is a run of ranks that is short in space: a balanced
// binary tree of halvings, or k-means clusters, or their positions. What `tree` routes query rows through.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"
#include "algorithms/primitives/run_means.h"
#include "algorithms/problem.h"
#include "core/random.h"

namespace hyperattn {

/// Segments of one level: segment R is the ranks [begins[R], begins[R + 1]).
struct TreeLevel {
  int64_t size = 0;             ///< N_t: keys of a segment (of clusters: on average)
  std::vector<int64_t> begins;  ///< count + 1
  /// Segment R's children are the next level's segments [first_child[R], first_child[R + 1]); empty: last
  /// level.
  std::vector<int64_t> first_child;

  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(begins.size()) - 1; }
  [[nodiscard]] int64_t keys(int64_t segment) const {
    return begins[static_cast<size_t>(segment) + 1] - begins[static_cast<size_t>(segment)];
  }
  [[nodiscard]] int64_t children_begin(int64_t segment) const {
    return first_child[static_cast<size_t>(segment)];
  }
};

struct KeyTree {
  std::vector<int32_t> order;     ///< rank → key row of the problem
  std::vector<TreeLevel> levels;  ///< from the largest segments to the smallest; never empty
};

/// `sizes` fall and each divides the one before. A level whose segments are not smaller than the node is left
/// out, but for the last.
///
/// The order: every segment of more than the last size is halved. Of min(count, 64) of its keys, at equal
/// spacing in the present order, less their mean: u ← the first; three times p = deviations·u, u ← the sum of
/// the deviations with p above the median less the sum of the others, normalised. Its keys are sorted by k·u,
/// stably, and cut at a multiple of the largest level size below their number. About 0.5 + 3·64/count entries
/// a key for each halving; deterministic, parallel over segments.
[[nodiscard]] KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                        const std::vector<int64_t>& sizes);

/// One round of its halvings, all of which may be made at once: the segments of the order by then, and
/// which of them are sorted along a direction of their own.
struct HalvingRound {
  std::vector<int64_t> begins;  ///< count + 1
  std::vector<uint8_t> sorted;  ///< by segment: 0 or 1
};
[[nodiscard]] std::vector<HalvingRound> halving_rounds(int64_t keys, const std::vector<int64_t>& sizes);

/// The same segments of the keys as they stand.
[[nodiscard]] KeyTree positional_key_tree(const AttentionNode& node, const std::vector<int64_t>& sizes);

/// One level: k-means clusters of `size` keys on average, found where the problem is bound.
[[nodiscard]] KeyTree clustered_key_tree(const BoundProblem& bound, MatrixView<const float> keys,
                                         const AttentionNode& node, int64_t size, const RandomStream& stream);

/// Means of a level's segments, and how far their keys lie from them.
struct SegmentMeans {
  std::shared_ptr<const SyntheticKeys> means;  ///< members have equal shares
  /// r_R: the mean squared distance of R's keys from their mean, over that of all keys from theirs; 0 where
  /// that is 0.
  std::vector<float> spread;
  std::vector<float> variance;  ///< δ, d: mean squared deviation of the keys from their segment's mean
};

/// By level, each from the one below it, so that keys and values are read once. 3·d FLOPs a key besides the
/// last level's means. `spreads`: false leaves spread and variance empty.
[[nodiscard]] std::vector<SegmentMeans> segment_means(const AttentionProblem& problem, int64_t head,
                                                      const KeyTree& tree, bool spreads);

/// Its steps: the last level's segments as runs with equal shares; and, from their means, all levels.
/// `add_squares(segment, sums)` adds the squared deviations of the last level's keys from their mean to d
/// numbers; without it, spread and variance stay empty.
using AddSquares = std::function<void(int64_t segment, float* sums)>;
[[nodiscard]] KeyRuns last_level_runs(const KeyTree& tree);
[[nodiscard]] std::vector<SegmentMeans> segment_means_of(const KeyTree& tree, KeyRuns runs,
                                                         std::shared_ptr<SyntheticKeys> means,
                                                         const AddSquares& add_squares);

}  // namespace hyperattn
