// The unmasked keys of a node without a sample: some exactly (columns), the others as centroids.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/node_mask.h"
#include "core/random.h"

namespace hyperattn {

struct Compression {
  int64_t centroids = 0;
  int64_t columns = 0;  ///< keys of largest estimated mass, computed exactly; they leave the centroids' runs
  bool calibrated = false;       ///< centroids are calibrated on sampled queries; goes without columns
  bool linear = false;           ///< and their values move with the query (LinearValues)
  bool earlier_queries = false;  ///< masses come from queries before the node's own (see draw_mass_rows)
};

/// Splits m ≥ 1 keys: the columns take `column_share` of them, rounded; the centroids take the rest, which is
/// at least one unless the share is 1.
[[nodiscard]] Compression split_budget(int64_t sample_size, double column_share);

/// The mask's entries with weight 1, the columns that lie outside the row's mask with weight 1, and the
/// centroids of all other keys outside the row's mask. Exact where centroids + columns = keys of the node.
/// `stream` draws the query rows that masses are estimated from (only read if masses are wanted).
[[nodiscard]] Pass compressed_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node,
                                   const NodeMask& mask, const Compression& compression,
                                   const RandomStream& stream);

/// The `count` places of largest value, in increasing order; of equal values the first is taken.
[[nodiscard]] std::vector<int32_t> largest_places(const std::vector<float>& values, int64_t count);

}  // namespace hyperattn
