// First and second moments of a node's keys and values: as a residual of their own, all keys as one Gaussian,
// and as what runs of keys miss (KeyMoments and LinearValues in plan.h).
#pragma once

#include <cstdint>

#include "algorithms/masks/node_mask.h"

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

/// The mask's entries with weight 1, and the moments of all keys of the node in place of those outside a
/// row's mask: right in number, with the spread of all. Exact where the mask holds all keys, and where all
/// keys and values of the node are equal. `run_backward` refuses it.
[[nodiscard]] Pass moments_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                                const NodeMask& mask);

}  // namespace hyperattn
