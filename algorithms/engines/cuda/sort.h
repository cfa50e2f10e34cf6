// Hash and stable sort of rows on the card, with the bits of primitives/sort_lsh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "algorithms/engines/cuda/kernels.h"

namespace hyperattn::cuda {

/// Rows of a block of threads that hashes.
constexpr int kHashRows = 256;

/// Rows [first_row, first_row + count) of the queries or keys on the card.
struct SortPart {
  int64_t begin = 0;  ///< of its rows among those of all parts
  int64_t count = 0;
  int64_t first_row = 0;
  int64_t directions = 0;   ///< offset into all directions: groups of 8, in each width × 8
  int32_t first_value = 0;  ///< what stands for its row 0 in the sorted order
  int32_t first_block = 0;  ///< of those that hash it
  int32_t of_keys = 0;
};

struct HashArguments {
  const SortPart* parts = nullptr;
  int32_t part_count = 0;
  int32_t block_count = 0;
  const void* query = nullptr;  ///< rounded rows
  const void* key = nullptr;
  const float* directions = nullptr;
  int32_t width = 0;
  int32_t stride = 0;
  int32_t bits = 0;
  int32_t gray = 1;           ///< the order of buckets: gray, or the authors'
  uint32_t* keys = nullptr;   ///< part · 2^bits + rank of the bucket
  int32_t* values = nullptr;  ///< first_value + row within its part
};
/// Each product is rounded and added in the order of columns, as on the host.
[[nodiscard]] LaunchError launch_hash(Precision precision, const HashArguments& arguments, void* stream);

/// Stable sort of `count` pairs by the lowest `bits` of their keys. Without `scratch` it only says how many
/// bytes of it are wanted.
[[nodiscard]] LaunchError sort_pairs(void* scratch, size_t& scratch_bytes, const uint32_t* keys,
                                     uint32_t* sorted_keys, const int32_t* values, int32_t* sorted_values,
                                     int64_t count, int bits, void* stream);

/// A row of a part whose rank in the sorted order is wanted.
struct AskedRow {
  int32_t part = 0;
  int32_t row = 0;
};
struct RankArguments {
  const SortPart* parts = nullptr;
  const AskedRow* asked = nullptr;
  int64_t count = 0;
  const uint32_t* keys = nullptr;
  const uint32_t* sorted_keys = nullptr;
  const int32_t* sorted_values = nullptr;
  int32_t* ranks = nullptr;
};
[[nodiscard]] LaunchError launch_ranks(const RankArguments& arguments, void* stream);

/// Rows [begin, begin + count) of all asked rows, which are of one part.
struct AskedPart {
  int64_t begin = 0;
  int64_t count = 0;
  int32_t first_value = 0;  ///< of its part
};
struct AskedOrderArguments {
  const AskedPart* parts = nullptr;
  int64_t part_count = 0;
  int64_t most = 0;  ///< rows of a part
  const AskedRow* asked = nullptr;
  const int32_t* ranks = nullptr;
  int32_t* sorted_ranks = nullptr;
  int32_t* sorted_rows = nullptr;  ///< first_value + row
};
/// Asked rows of each part in the order of their ranks, and of asking. O(rows of the part) a row: the rows
/// that are asked for are a sample.
[[nodiscard]] LaunchError launch_asked_order(const AskedOrderArguments& arguments, void* stream);

}  // namespace hyperattn::cuda
