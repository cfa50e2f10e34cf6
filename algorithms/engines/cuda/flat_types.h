// A plan as plain arrays that a kernel reads: every list, visit and group with offsets in place of pointers.
// Included by the CUDA compiler, so nothing but plain structs stands here. How they are made: flat_plan.h.
#pragma once

#include <cstdint>

namespace hyperattn::cuda {

/// Rows of a tile of query positions, and ranks of a block of a key list.
constexpr int kTileRows = 64;
/// For kernels that take more at once: of gradients, and of the forward pass.
constexpr int kWideTileRows = 128;
constexpr int kWidestTileRows = 256;
/// Segments of at most 16 keys that a tile looks at together.
constexpr int kPackSegments = 4;
constexpr int64_t kNone = -1;

/// A run first, first + 1, … or a selection of rows that lies in the plan's integers or elsewhere on the
/// card.
struct FlatOrder {
  int64_t rows = kNone;  ///< offset into the integers; kNone: not there
  int64_t first = 0;
  const int32_t* remote = nullptr;  ///< null: not elsewhere
};

/// A key list. Weights are in base 2. Signed weights are at most 1 in size: what they were is part of the
/// log-weight, so that no product of a weight with an exponential overflows.
struct FlatList {
  FlatOrder order;  ///< rank → row of the source below
  int64_t count = 0;
  int64_t source_row = 0;      ///< row of all keys (or all synthetic keys) that order's row 0 is
  int64_t log_weight = kNone;  ///< offset into the numbers, one a rank; kNone: `uniform`
  int64_t numerator = kNone;   ///< likewise, of signed weights; kNone: N = D = 1
  int64_t denominator = kNone;
  int64_t factor_row = kNone;  ///< likewise, one a position; kNone: no factor
  int64_t factor_rank = kNone;
  float uniform = 0;
  int32_t synthetic = 0;  ///< 1: rows of the plan's synthetic keys
  int32_t linear = 0;
};

struct FlatPass {
  FlatOrder queries;     ///< position → query row of the head
  int64_t row_base = 0;  ///< head · n_q
  int64_t diagonal = 0;
  int64_t window = 0;
  int64_t moments = kNone;  ///< offset into the numbers: μ, v̄, Σ, C of KeyMoments
  int64_t linear = kNone;   ///< offset into the numbers: variance, C of LinearValues
  int32_t triangular = 0;
};

/// SampledBlocks of a pass, with as many tiles for each block, of which some may have no rows.
struct FlatBlocks {
  int32_t pass = 0;
  int32_t list = 0;  ///< of the sorted keys; the sample, if there is one, is the next
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t block_size = 0;
  int64_t block_count = 0;
  int64_t block_tiles = 0;  ///< of each block
  int64_t first_tile = 0;
  int64_t first_visit = 0;
  const int32_t* sample_ranks = nullptr;  ///< on the card, increasing; null: there is no sample
  int64_t sample_count = 0;
  int32_t counts_twice = 0;
  int32_t are_last = 0;
};

/// Ranks [begin, end) of a list without those among the integers [excluded_begin, excluded_end).
struct FlatVisit {
  int32_t list = 0;
  int32_t begin = 0;
  int32_t end = 0;
  int64_t excluded_begin = 0;
  int64_t excluded_end = 0;
};

/// RowEntry of plan.h.
struct FlatEntry {
  int32_t position = 0;
  uint32_t skip = 0;
};

/// Up to kPackSegments segments of one list, each with the entries of one tile.
struct FlatPack {
  int32_t list = 0;
  int32_t begin[kPackSegments] = {};
  int32_t end[kPackSegments] = {};
  int64_t first_entry[kPackSegments] = {};
  int64_t last_entry[kPackSegments] = {};
};

/// At most as many positions of one group as a tile has rows.
struct FlatTile {
  int32_t pass = 0;
  int32_t begin = 0;
  int32_t count = 0;
  int32_t is_last = 0;  ///< nothing is added to its rows afterwards
  int64_t first_visit = 0;
  int64_t last_visit = 0;
  int64_t first_pack = 0;
  int64_t last_pack = 0;
  int64_t moment_keys = 0;
};

/// What visits a block of ranks: the positions [begin, end) of a group through a shared visit, or, with
/// `entries`, the positions of the entries [begin, end) through a segment.
struct KeyItem {
  int64_t begin = 0;
  int64_t end = 0;
  int32_t first_rank = 0;
  int32_t last_rank = 0;
  int64_t excluded_begin = 0;
  int64_t excluded_end = 0;
  int32_t entries = 0;
};

/// Ranks [rank, rank + count), at most kTileRows (or kWideTileRows), of a list, with some of the items that
/// visit them. Its gradients are rows [slot, slot + count) of a scratch matrix; with slot kNone they are
/// added to the gradients of the keys themselves.
struct KeyJob {
  int32_t pass = 0;
  int32_t list = 0;
  int32_t rank = 0;
  int32_t count = 0;
  int64_t first_item = 0;
  int64_t last_item = 0;
  int64_t slot = 0;
};

/// What a key row's gradient is made of: rows of the scratch matrix by their shares.
struct KeyPart {
  int64_t slot = 0;
  float share = 1;
};

}  // namespace hyperattn::cuda
