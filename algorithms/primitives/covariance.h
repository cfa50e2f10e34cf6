// First and second moments of a node's keys and values.
#pragma once

#include <cstdint>

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

}  // namespace hyperattn
