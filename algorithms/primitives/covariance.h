// First and second moments of a node's keys and values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// Mean and covariance of the node's keys, mean of their values, and covariance of keys with values.
/// 2·d·(d + d_v) FLOPs a key; float in chunks of 256 keys that are centred first, double over chunks; bits
/// are equal for any number of threads.
[[nodiscard]] KeyMoments key_moments(const AttentionProblem& problem, int64_t head,
                                     const AttentionNode& node);

/// The covariance of keys with values, and the variance of keys, that the runs' means do not show: those of
/// all keys of the node (of every 16th for the variance) less those of the means, each counted as its
/// members. 2·d·d_v FLOPs a key.
[[nodiscard]] LinearValues missed_covariance(const AttentionProblem& problem, int64_t head,
                                             const AttentionNode& node, const SyntheticKeys& runs);

/// Keys [begin, end) of a node, cut into parts that have sums of their own, which are added in order; the
/// same whatever the number of threads.
struct KeyParts {
  static constexpr int64_t kChunk = 256;  ///< keys centred at a time
  static constexpr int64_t kVarianceStep = 16;
  static constexpr int64_t kMostParts = 32;
  int64_t begin;
  int64_t end;
  int64_t size;

  explicit KeyParts(const AttentionNode& node)
      : begin(node.key_begin),
        end(node.key_end),
        size(((node.key_count() + kMostParts - 1) / kMostParts + kChunk - 1) / kChunk * kChunk) {}

  [[nodiscard]] int64_t count() const { return (end - begin + size - 1) / size; }
  [[nodiscard]] int64_t first(int64_t part) const { return begin + part * size; }
  [[nodiscard]] int64_t last(int64_t part) const { return std::min(end, first(part) + size); }
};
/// `sums` has as many doubles for each part: added up and divided by the keys.
[[nodiscard]] std::vector<float> mean_of_parts(const KeyParts& parts, const std::vector<double>& sums);

/// What both are made of, where the node's keys lie.
class KeySums {
 public:
  KeySums() = default;
  virtual ~KeySums() = default;
  KeySums(const KeySums&) = delete;
  KeySums& operator=(const KeySums&) = delete;

  /// The mean key, or value.
  [[nodiscard]] virtual std::vector<float> mean(bool of_values) const = 0;
  /// Σ (k − centre)² of every column over every kVarianceStep-th key.
  [[nodiscard]] virtual std::vector<float> squares(const std::vector<float>& centre) const = 0;
  /// Mean of (k − mean_key)ᵀ(x − other_mean), x the values or the keys.
  [[nodiscard]] virtual std::vector<float> covariance(bool with_values, const std::vector<float>& mean_key,
                                                      const std::vector<float>& other_mean) const = 0;
};
[[nodiscard]] KeyMoments key_moments(const KeySums& sums);
[[nodiscard]] LinearValues missed_covariance(const KeySums& sums, const AttentionNode& node,
                                             const SyntheticKeys& runs);

}  // namespace hyperattn
