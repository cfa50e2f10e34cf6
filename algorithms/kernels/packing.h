// Key lists in the form that the inner kernels read: key tiles of kKeyTile keys, each self-contained, with K
// transposed into panels, V in column panels and one base-2 bias per key (log-weight; −∞ for the padding of a
// ragged last tile, so padding never counts).
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/kernels/base2.h"
#include "algorithms/kernels/pairs.h"
#include "algorithms/kernels/tile.h"
#include "algorithms/plan.h"

namespace hyperattn {

/// Keys in a tile: K and V of a tile fit in L2 beside the query tile. `hyper` at n = 131072 took 201.5, 188.8
/// and 192.0 ms with 128, 256 and 512, at n = 16384 24.0, 23.1 and 23.3 ms (d = 64, Zen 4, one thread, the
/// best of 9).
constexpr int64_t kKeyTile = 256;

[[nodiscard]] inline int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

/// Rows that are gathered lie scattered: asking for them this many rows early hides their latency. In the
/// same calls 4 and 64 took 189.8 and 194.4 ms, and 23.3 and 23.3 ms.
constexpr int64_t kPrefetchAhead = 16;
// Inlined by force, or g++ may take the call for one without effect and drop it.
[[gnu::always_inline]] inline void prefetch_row(const float* row, int64_t length) {
  constexpr int64_t kLine = 16;
  for (int64_t i = 0; i < length; i += kLine) __builtin_prefetch(row + i);
}

/// The same for rows [begin, end) that follow each other: kernels that read several rows side by side show
/// the processor no stream to fetch ahead of.
[[gnu::always_inline]] inline void prefetch_rows(MatrixView<const float> rows, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) prefetch_row(rows.row(i), rows.cols);
}

/// Sizes that all tiles of a problem share, for the kernel table in use.
struct TileLayout {
  /// `rounded`: to bfloat16 (engines/cpu/run_plan.h says what).
  TileLayout(const AttentionProblem& problem, bool with_values, bool rounded = false);

  int64_t head_dim;
  int64_t value_dim;
  int64_t value_columns;  ///< value_dim rounded up to vectors; 0 without values
  int64_t panel;
  const PairKernels* pairs;  ///< null: tiles of floats
  bool is_rounded;           ///< floats that hold bfloat16

  /// Of a row of K or Q in a tile: its floats, or its words (kernels/pairs.h).
  [[nodiscard]] int64_t head_words() const {
    return pairs == nullptr ? head_dim : round_up((head_dim + 1) / 2, pairs->depth_step);
  }
  [[nodiscard]] int64_t value_rows() const { return pairs == nullptr ? kKeyTile : kKeyTile / 2; }
  [[nodiscard]] int64_t key_tile_floats() const { return kKeyTile * head_words(); }
  [[nodiscard]] int64_t value_tile_floats() const { return value_rows() * value_columns; }
};

/// A packed tile, of floats or of words as the layout says: ranks first_rank … first_rank + count − 1 of its
/// list; `columns` is count rounded up to vectors.
struct KeyTile {
  const float* keys = nullptr;
  const float* values = nullptr;
  const float* bias = nullptr;
  int64_t first_rank = 0;
  int64_t count = 0;
  int64_t columns = 0;
  // With the length of a query these bound what its scores can be.
  float largest_key_norm = 0;  ///< ‖k‖
  float smallest_bias = 0;     ///< finite ones
  float largest_bias = 0;
};

/// Storage of floats that holds words.
[[nodiscard]] inline uint32_t* words_of(float* storage) {
  return reinterpret_cast<uint32_t*>(storage);
}
[[nodiscard]] inline const uint32_t* words_of(const float* storage) {
  return reinterpret_cast<const uint32_t*>(storage);
}

/// Storage for one tile.
struct TileBuffers {
  float* keys = nullptr;
  float* values = nullptr;
  float* bias = nullptr;
};

/// The row of K (or V) that stands at `rank` of a list.
[[nodiscard]] const float* key_row(const AttentionProblem& problem, int64_t key_head, const KeyList& list,
                                   int64_t rank);
[[nodiscard]] const float* value_row(const AttentionProblem& problem, int64_t key_head, const KeyList& list,
                                     int64_t rank);

/// Copies `count` rows of length `columns` (zero up to `padded_columns`) into column panels; a panel's stride
/// is panel_rows · panel.
void pack_rows(const float* const* rows, int64_t count, int64_t columns, int64_t padded_columns,
               int64_t panel, int64_t panel_rows, float* destination);

/// Transposes `count` rows of length `depth` into the columns of panels, zero up to `padded_columns` (a
/// multiple of lanes; the last panel may be narrower). Returns the largest ‖row‖², where that is wanted.
float pack_transposed(const float* const* rows, int64_t count, int64_t depth, int64_t padded_columns,
                      int64_t panel, float* destination, bool wants_norm = true);

/// The same for the 1 to kSegmentKeys rows of a segment, zero up to segment_width(count).
void pack_segment_columns(const float* const* rows, int64_t count, int64_t depth, float* destination);

/// Copies what a list says of its ranks [first, first + count), and zeros up to `columns`.
void load_numbers(const std::vector<float>& numbers, int64_t first, int64_t count, int64_t columns,
                  float* target);

/// Base-2 biases of ranks [first, first + count) of a list, and −∞ up to `columns`.
void fill_bias(const KeyList& list, int64_t first, int64_t count, int64_t columns, float* bias);

/// Gathers ranks [first, first + count), count ≤ kKeyTile, of a list into `buffers`; values of signed lists
/// are times their numerators. Rounded as the layout says.
[[nodiscard]] KeyTile pack_tile(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head,
                                const KeyList& list, int64_t first, int64_t count,
                                const TileBuffers& buffers);

/// A whole list packed once, because many query tiles visit it. The memory is the caller's.
class PackedList {
 public:
  /// Floats that `count` keys take.
  [[nodiscard]] static int64_t floats(const TileLayout& layout, int64_t count);

  PackedList(int64_t count, float* storage);

  [[nodiscard]] int64_t tile_count() const { return static_cast<int64_t>(tiles_.size()); }
  void pack(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head, const KeyList& list,
            int64_t tile);
  [[nodiscard]] const KeyTile& tile(int64_t tile) const { return tiles_[static_cast<size_t>(tile)]; }

 private:
  float* storage_;  // tile by tile: keys, values, biases
  std::vector<KeyTile> tiles_;
};

/// The segments of a list that row visits name, each packed once. Arrays by key have kSegmentKeys entries.
struct SegmentTile {
  const float* key_columns = nullptr;  ///< d × segment_width(count)
  const float* values = nullptr;       ///< count × value_columns; of signed lists times their numerators
  const float* bias = nullptr;
  const float* rank_factor = nullptr;  ///< null: the list has no factor
  const float* denominator = nullptr;  ///< null: the list has no signed weights
  int64_t count = 0;
};

class PackedSegments {
 public:
  PackedSegments(const TileLayout& layout, const KeyList& list, float* storage)
      : list_(&list), storage_(storage), stride_(floats(layout)) {}

  /// Floats that one segment takes.
  [[nodiscard]] static int64_t floats(const TileLayout& layout);

  void pack(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head, int64_t segment);
  [[nodiscard]] SegmentTile tile(const TileLayout& layout, int64_t segment) const;
  void prefetch(const TileLayout& layout, int64_t segment) const;

 private:
  const KeyList* list_;
  float* storage_;  // segment by segment: biases, factors, denominators, keys, values
  int64_t stride_;
};

}  // namespace hyperattn
