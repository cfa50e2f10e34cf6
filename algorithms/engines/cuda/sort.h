// Hash and stable sort of rows on the card, with the bits of primitives/sort_lsh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "algorithms/engines/cuda/kernels.h"
#include "core/everywhere.h"
#include "core/random.h"

namespace hyperattn::cuda {

/// Rows of a block of threads that hashes, and of one that sorts.
constexpr int kHashRows = 1024;
constexpr int kSortRows = 2048;

/// Ranks of buckets: bytes where they have at most kNarrowBits.
constexpr int kNarrowBits = 8;
struct BucketNumbers {
  uint8_t* narrow = nullptr;
  uint32_t* wide = nullptr;

  [[nodiscard]] HYPERATTN_EVERYWHERE uint32_t of(int64_t i) const {
    return narrow != nullptr ? narrow[i] : wide[i];
  }
  HYPERATTN_EVERYWHERE void set(int64_t i, uint32_t number) const {
    if (narrow != nullptr)
      narrow[i] = static_cast<uint8_t>(number);
    else
      wide[i] = number;
  }
};

/// Rows [first_row, first_row + count) of the queries or keys on the card, read once for all tasks
/// [first_task, last_task).
struct HashStretch {
  int64_t first_row = 0;
  int64_t count = 0;
  int32_t of_keys = 0;
  int32_t first_block = 0;  ///< of those that hash it
  int32_t first_task = 0;
  int32_t last_task = 0;
};

/// One hash function for a stretch.
struct HashTask {
  int64_t directions = 0;  ///< offset into all directions: groups of 8, in each width × 8
  int64_t numbers = 0;     ///< where those of its rows go
};

/// Hash functions have their directions in groups of so many, and zeros beyond the last.
constexpr int kDirections = 8;
/// Functions one after the other, with the bits of the host: element c of direction t of each is normal
/// number first + t·width + c of its stream.
struct DrawArguments {
  const StreamPlace* functions = nullptr;
  int64_t function_count = 0;
  int32_t bits = 0;
  int32_t width = 0;
  float* directions = nullptr;
};
[[nodiscard]] LaunchError launch_draw(const DrawArguments& arguments, void* stream);

/// A group of 64 columns as the matrix units of a warp take it: words of each lane, and lengths.
struct SplitDirections {
  uint32_t words[4][32][4];
  float length[kDirections];
};
/// Whether rows of so many columns are hashed by matrix units.
[[nodiscard]] bool hashes_by_matrix_units(Precision precision, int64_t width);

struct HashArguments {
  const HashStretch* stretches = nullptr;
  int32_t stretch_count = 0;
  int32_t block_count = 0;
  const HashTask* tasks = nullptr;
  const void* query = nullptr;  ///< rounded rows
  const void* key = nullptr;
  const float* directions = nullptr;
  int64_t direction_groups = 0;
  SplitDirections* split = nullptr;  ///< room for all groups; null: not by matrix units
  int32_t width = 0;
  int32_t stride = 0;
  int32_t bits = 0;
  int32_t gray = 1;  ///< the order of buckets: gray, or the authors'
  BucketNumbers numbers;
};
/// Each product is rounded and added in the order of columns, as on the host.
[[nodiscard]] LaunchError launch_hash(Precision precision, const HashArguments& arguments, void* stream);

/// Rows that are sorted among themselves.
struct SortPart {
  int64_t begin = 0;  ///< of its rows among those of all parts
  int64_t count = 0;
  int64_t numbers = 0;      ///< where those of its rows begin
  int32_t first_value = 0;  ///< what stands for its row 0 in the sorted order
  int32_t first_block = 0;  ///< of those that sort it
};

struct SortArguments {
  const SortPart* parts = nullptr;
  int32_t part_count = 0;
  int32_t block_count = 0;
  BucketNumbers numbers;
  int32_t bits = 0;
};

/// Stable sort of every part by narrow numbers, by counting: first_value + row of each goes to `sorted`.
/// `places` has room for 2^bits numbers a block.
[[nodiscard]] LaunchError launch_counting_sort(const SortArguments& arguments, int32_t* places,
                                               int32_t* sorted, void* stream);

/// For a sort of all parts as pairs of a key part · 2^bits + number and a value first_value + row.
[[nodiscard]] LaunchError launch_pairs(const SortArguments& arguments, uint32_t* keys, int32_t* values,
                                       void* stream);

/// Stable sort of `count` pairs by the lowest `bits` of their keys. Without `scratch` it only says how many
/// bytes of it are wanted.
[[nodiscard]] LaunchError sort_pairs(void* scratch, size_t& scratch_bytes, const uint32_t* keys,
                                     uint32_t* sorted_keys, const int32_t* values, int32_t* sorted_values,
                                     int64_t count, int bits, void* stream);

/// Rows [begin, begin + count) of all those whose ranks are wanted, which are of one part.
struct AskedPart {
  int64_t begin = 0;
  int64_t count = 0;
  int32_t part = 0;
};
struct AskedArguments {
  const AskedPart* asked_parts = nullptr;
  int64_t asked_part_count = 0;
  int64_t most = 0;                ///< rows of a part
  const int32_t* asked = nullptr;  ///< counted from the part's first
  const SortPart* parts = nullptr;
  BucketNumbers numbers;
  const int32_t* sorted = nullptr;
  int32_t* ranks = nullptr;  ///< of the rows that are asked for
  int32_t* sorted_ranks = nullptr;
  int32_t* sorted_rows = nullptr;  ///< first_value + row
};
[[nodiscard]] LaunchError launch_ranks(const AskedArguments& arguments, void* stream);

/// Asked rows of each part in the order of their ranks, and of asking. O(rows of the part) a row: the rows
/// that are asked for are a sample.
[[nodiscard]] LaunchError launch_asked_order(const AskedArguments& arguments, void* stream);

}  // namespace hyperattn::cuda
