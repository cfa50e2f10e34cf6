// The mask M^H of entries that are computed exactly (paper, section 3): found by sorted LSH, a band, or given
// by the caller as blocks or compressed sparse rows. It forbids nothing; everything outside it is estimated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hyperattn {

/// Query rows [query_begin, query_end) against key rows [key_begin, key_end).
struct MaskBlock {
  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t key_begin = 0;
  int64_t key_end = 0;
};

/// A mask of the caller's own. Either every head shares pattern 0, or there is one pattern per flat head.
class HeavyMask {
 public:
  struct Pattern {
    std::vector<MaskBlock> blocks;  ///< used if `indptr` is empty; disjoint
    std::vector<int64_t> indptr;    ///< compressed sparse rows: n_q + 1 offsets
    std::vector<int32_t> indices;   ///< increasing and distinct in each row
  };

  /// Takes patterns as they are; call `validate` before use.
  explicit HeavyMask(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}

  [[nodiscard]] const Pattern& pattern(int64_t head) const {
    return patterns_[patterns_.size() == 1 ? 0 : static_cast<size_t>(head)];
  }
  [[nodiscard]] int64_t pattern_count() const { return static_cast<int64_t>(patterns_.size()); }

  /// Throws Error(input) naming the first offence, its place and its value: an index out of range, an empty
  /// or reversed block, overlapping blocks, offsets that do not increase, unsorted or repeated indices, a
  /// wrong number of patterns (must be 1 or `heads`).
  void validate(int64_t heads, int64_t query_count, int64_t key_count) const;

 private:
  std::vector<Pattern> patterns_;
};

}  // namespace hyperattn
