// The unmasked keys of a node without a sample: some exactly (columns), the others as centroids.
#pragma once

#include <cstdint>

#include "algorithms/parts/node_mask.h"
#include "core/random.h"

namespace hyperattn {

struct CompressionBudget {
  int64_t centroids = 0;
  int64_t columns = 0;  ///< keys of largest estimated mass, computed exactly; they leave the centroids' runs
};

/// Splits m keys: the columns take `column_share` of them, rounded; the centroids take the rest.
[[nodiscard]] CompressionBudget split_budget(int64_t sample_size, double column_share);

/// The mask's entries with weight 1, the columns that lie outside the row's mask with weight 1, and the
/// centroids of all other keys outside the row's mask. Exact where centroids + columns = keys of the node.
/// `stream` draws the query rows that masses are estimated from (only read if there are columns).
[[nodiscard]] Pass compressed_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                                   const NodeMask& mask, const CompressionBudget& budget,
                                   const RandomStream& stream);

}  // namespace hyperattn
