// Unions of masks, for which a row holds the keys of a mask and of its further masks (NodeMask::further),
// such as those of other hash rounds or the window around its position. Each key counts once: in the first
// mask that has it. Blocks of the first mask stay whole; later ones skip, row by row, what came before.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/node_mask.h"

namespace hyperattn {

/// What the rows of a node hold in the first masks of a union. The mask must outlive it.
class UnionRows {
 public:
  /// Of the mask and its first `further` further masks.
  UnionRows(const NodeMask& mask, const AttentionNode& node, size_t further);
  /// Of all of them.
  UnionRows(const NodeMask& mask, const AttentionNode& node) : UnionRows(mask, node, mask.further.size()) {}

  /// Whether a row of the problem holds a key row of the problem.
  [[nodiscard]] bool holds(int64_t row, int64_t key) const;
  /// The key rows that it holds, each once.
  [[nodiscard]] std::vector<int32_t> keys_of(int64_t row) const;

 private:
  struct Part {
    const NodeMask* mask;
    std::vector<int32_t> group_of_row;  ///< by row of the node
  };
  [[nodiscard]] const MaskGroup& group_of(const Part& part, int64_t row) const {
    return part.mask
        ->groups[static_cast<size_t>(part.group_of_row[static_cast<size_t>(row - node_.query_begin)])];
  }
  [[nodiscard]] bool holds(size_t parts, int64_t row, int64_t key) const;

  AttentionNode node_;
  std::vector<Part> parts_;
};

/// A pass for each further mask: the keys that no mask before it holds, with weight 1. Empty without further
/// masks. With `rows_apart` every row's keys are visited by itself, so that its rounding follows no other
/// row.
[[nodiscard]] std::vector<Pass> further_passes(const AttentionProblem& problem, const HeadNode& place,
                                               const NodeMask& mask, bool rows_apart);

/// Whether rows of sorted blocks must be apart: where blocks are made of rows that nothing may depend on.
[[nodiscard]] inline bool rows_apart_in(const NodeMask& mask, bool rows_are_independent) {
  return rows_are_independent && !mask.queries.is_run();
}

}  // namespace hyperattn
