// Which keys matter to many queries: softmax mass of each key outside the mask, summed over sampled queries.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/parts/node_mask.h"
#include "core/random.h"

namespace hyperattn {

/// Query rows that a node's column masses are estimated from.
constexpr int64_t kMassRows = 32;

/// For each key rank of the node, Σ over min(kMassRows, n_q) query positions drawn without replacement of
/// the row's exact softmax weight (over all keys of the node), 0 where the row's own mask holds the key.
/// 2·d FLOPs and one exponential for each of kMassRows·n_k entries, and as many floats of memory. Parallel,
/// independent of threads.
[[nodiscard]] std::vector<float> column_masses(const AttentionProblem& problem, int64_t head,
                                               const NodeMask& mask, const RandomStream& stream);

/// The `count` ranks of largest mass, in increasing order of rank; of equal masses the lower rank is taken.
[[nodiscard]] std::vector<int32_t> heaviest_ranks(const std::vector<float>& masses, int64_t count);

}  // namespace hyperattn
