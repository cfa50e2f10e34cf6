// Tiles and visits of sampled blocks (plan.h), which the card writes where it has sorted the rows: what a
// thread writes is a function here that the host can call, too. Compiled by both compilers.
#pragma once

#include <cstdint>

#include "algorithms/engines/cuda/flat_types.h"
#include "algorithms/engines/cuda/kernels.h"
#include "core/everywhere.h"

namespace hyperattn::cuda {

/// Where they are written.
struct BlockTarget {
  FlatTile* tiles = nullptr;
  FlatVisit* visits = nullptr;
  int64_t identity = 0;  ///< where the numbers 0, 1, … lie among the integers
  int32_t tile_rows = 0;
};

/// How many of `count` increasing ranks are less than `rank`.
[[nodiscard]] HYPERATTN_EVERYWHERE inline int32_t ranks_before(const int32_t* ranks, int64_t count,
                                                               int64_t rank) {
  int64_t low = 0;
  int64_t high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (ranks[middle] < rank)
      low = middle + 1;
    else
      high = middle;
  }
  return static_cast<int32_t>(low);
}

/// The first query position of a block whose keys begin at rank `key`: ⌈key·n_q/n_k⌉, as `aligned_blocks`
/// has it.
[[nodiscard]] HYPERATTN_EVERYWHERE inline int64_t block_query(const FlatBlocks& a, int64_t key) {
  return (key * a.queries + a.keys - 1) / a.keys;
}

/// Writes tile `number` of those of the blocks, block by block, and with a block's first tile its visits.
/// Returns the entries that these leave out. Sampled keys that a block holds are a run of ranks of the
/// sample.
[[nodiscard]] HYPERATTN_EVERYWHERE inline int64_t write_block_tile(const FlatBlocks& a,
                                                                   const BlockTarget& target,
                                                                   int64_t number) {
  const int64_t block = number / a.block_tiles;
  const int64_t part = number % a.block_tiles;
  const int64_t key_begin = block * a.block_size;
  const int64_t key_end = key_begin + a.block_size < a.keys ? key_begin + a.block_size : a.keys;
  const int64_t query_begin = block_query(a, key_begin);
  const int64_t rows = block_query(a, key_end) - query_begin;
  const int64_t before = part * target.tile_rows;
  const int64_t left = rows > before ? rows - before : 0;
  const int64_t first_visit = a.first_visit + 2 * block;
  FlatTile tile;
  tile.pass = a.pass;
  tile.begin = static_cast<int32_t>(query_begin + before);
  tile.count = static_cast<int32_t>(left < target.tile_rows ? left : target.tile_rows);
  tile.is_last = a.are_last;
  tile.first_visit = first_visit;
  const bool is_sampled = a.sample_ranks != nullptr;
  tile.last_visit = first_visit + (tile.count > 0 ? 1 + (is_sampled ? 1 : 0) : 0);
  target.tiles[a.first_tile + number] = tile;
  if (part > 0) return 0;
  target.visits[first_visit] = {a.list, static_cast<int32_t>(key_begin), static_cast<int32_t>(key_end), 0, 0};
  if (!is_sampled) return 0;
  const auto sampled = static_cast<int32_t>(a.sample_count);
  const int32_t first = a.counts_twice != 0 ? 0 : ranks_before(a.sample_ranks, sampled, key_begin);
  const int32_t last = a.counts_twice != 0 ? 0 : ranks_before(a.sample_ranks, sampled, key_end);
  target.visits[first_visit + 1] = {a.list + 1, 0, sampled, target.identity + first, target.identity + last};
  return rows * (last - first);
}

struct BlockArguments {
  const FlatBlocks* blocks = nullptr;
  int64_t count = 0;
  int64_t most_tiles = 0;  ///< of one of them
  BlockTarget target;
  unsigned long long* excluded = nullptr;  ///< the entries left out are added; null: not wanted
};
[[nodiscard]] LaunchError launch_blocks(const BlockArguments& arguments, void* stream);

}  // namespace hyperattn::cuda
