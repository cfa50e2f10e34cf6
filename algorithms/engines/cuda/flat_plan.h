// A plan's pointers and visits laid out for kernels. Made on the host, uploaded once a call; nothing here
// needs a device, so that tests walk it entry by entry on any machine.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/engines/cuda/flat_types.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"
#include "core/memory.h"

namespace hyperattn::cuda {

/// The tiles of one phase, and its first pass. A plan's phase with listed groups and sampled blocks becomes
/// two.
struct FlatPhase {
  int64_t first_tile = 0;
  int64_t last_tile = 0;
  int64_t first_pass = 0;
  bool has_query_terms = false;
};

/// Where the lists, visits and entries of a pass begin.
struct FlatStart {
  int32_t list = 0;
  int64_t visit = 0;
  int64_t entry = 0;
};

struct FlatPlan {
  std::vector<FlatPhase> phases;
  std::vector<FlatPass> passes;
  std::vector<FlatStart> starts;  ///< of the passes
  std::vector<FlatList> lists;
  Buffer<FlatVisit> visits;
  Buffer<FlatPack> packs;
  Buffer<FlatEntry> entries;
  Buffer<FlatTile> tiles;
  std::vector<FlatBlocks> blocks;  ///< whose tiles and visits follow these, and are not written
  int64_t block_tiles = 0;
  int64_t block_visits = 0;
  int64_t rows = 0;            ///< of all groups
  int64_t last_rows = 0;       ///< that nothing is added to afterwards
  Buffer<int32_t> integers;    ///< orders of rows, and exclusions
  int64_t identity = 0;        ///< where 0, 1, … lie among them, as many as blocks have sampled keys
  std::vector<float> numbers;  ///< weights, factors, moments
  std::vector<const SyntheticKeys*> synthetic;  ///< in the order of their stacked rows
  int64_t synthetic_rows = 0;
  bool has_signed_weights = false;
};

/// The plan's phases from `first_phase` on. O(size of the plan), parallel over passes. The plan must outlive
/// the result where it has synthetic keys. More rows in a tile than kTileRows are for plain plans.
[[nodiscard]] FlatPlan flatten(const AttentionProblem& problem, const Plan& plan,
                               int64_t tile_rows = kTileRows, size_t first_phase = 0);

/// Whether all that rows do in those phases is to share visits to lists with unsigned weights.
[[nodiscard]] bool is_plain(const Plan& plan, size_t first_phase = 0);

/// Query rows of the largest group or block of those phases.
[[nodiscard]] int64_t most_rows_of_group(const Plan& plan, size_t first_phase = 0);

/// What the gradient of keys and values of one phase needs: blocks of ranks with all that visits them. Blocks
/// of a list whose rows are distinct go straight to the gradients of their keys, in rounds: no two jobs of a
/// round have a key in common. The others go to scratch rows, and every key row (key head · n_k + row) that
/// has some says which add up to its gradient, in a fixed order.
struct KeyWork {
  Buffer<KeyJob> jobs;
  std::vector<int64_t> round_end;  ///< of jobs without slots, which come first: where each round ends
  Buffer<KeyItem> items;
  Buffer<int64_t> rows;        ///< key rows with a gradient in this phase, increasing
  Buffer<int64_t> part_begin;  ///< rows.size() + 1 offsets into parts
  Buffer<KeyPart> parts;
  int64_t slots = 0;
  bool covers_keys = false;  ///< the first round has all rows of all keys
};

/// `flat` is the plan's; `phase` a number of its phases. A block with many visits is cut into several jobs,
/// so that all of a card has work. More ranks in a job than kTileRows are for plain plans. O(size of the
/// phase), parallel over passes and heads.
[[nodiscard]] KeyWork invert(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat,
                             int64_t phase, int64_t job_ranks = kTileRows);

}  // namespace hyperattn::cuda
