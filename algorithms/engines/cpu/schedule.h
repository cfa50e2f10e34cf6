// How a phase is cut into jobs and which key lists are worth packing once: shared by the forward and the
// backward pass.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/kernels/packing.h"
#include "algorithms/plan.h"

namespace hyperattn {

constexpr int64_t kQueryTile = 256;  ///< most query rows in a tile
constexpr int64_t kRowGroup =
    24;  ///< rows whose scores stay in L1: a multiple of every level's register rows

/// Rows of a query tile: smaller than kQueryTile where there are few rows, so that all threads get work. A
/// function of the phase only, never of the number of threads.
[[nodiscard]] int64_t query_tile_rows(const Phase& phase);

/// Groups [group_begin, group_end) of a pass (several if they are small), or the positions [begin, end) of
/// one.
struct QueryJob {
  const Pass* pass = nullptr;
  int64_t pass_index = 0;
  int64_t group_begin = 0;
  int64_t group_end = 0;
  int64_t begin = 0;  ///< positions, used when it is one group
  int64_t end = 0;
};

/// All jobs of a phase; expensive ones (the last rows of a triangle) come first.
[[nodiscard]] std::vector<QueryJob> make_jobs(const Phase& phase, int64_t tile_rows);

/// The lists of a phase that are packed once. Indexed by pass and list; null where a job packs its own tiles.
class SharedLists {
 public:
  SharedLists(const AttentionProblem& problem, const Phase& phase, const TileLayout& layout,
              int64_t tile_rows);

  [[nodiscard]] const PackedList* find(int64_t pass, int64_t list) const {
    const int64_t slot = slots_[static_cast<size_t>(first_slot_[static_cast<size_t>(pass)] + list)];
    return slot < 0 ? nullptr : &packed_[static_cast<size_t>(slot)];
  }

 private:
  std::vector<int64_t> first_slot_;
  std::vector<int64_t> slots_;
  Buffer<float> storage_;  // one allocation for all: small ones would be new pages every time
  std::vector<PackedList> packed_;
};

/// Whether the phase's groups hold every query row of every head.
[[nodiscard]] bool covers_all_rows(const Phase& phase, const AttentionProblem& problem);

}  // namespace hyperattn
