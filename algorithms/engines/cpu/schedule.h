// How a phase is cut into jobs and which key lists are worth packing once: shared by the forward and the
// backward pass.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "algorithms/kernels/packing.h"
#include "algorithms/plan.h"

namespace hyperattn {

/// Most query rows in a tile. `hyper` at n = 131072 took 198.6, 188.8 and 190.7 ms with 128, 256 and 512, at
/// n = 16384 23.8, 23.1 and 23.2 ms (d = 64, Zen 4, one thread, the best of 9).
constexpr int64_t kQueryTile = 256;
constexpr int64_t kRowGroup =
    24;  ///< rows whose scores stay in L1: a multiple of every level's register rows

/// Rows of a query tile: kQueryTile, or in a phase with row visits so many that the rows of a tile that visit
/// one segment are a batch, while their queries and sums stay in L2. Smaller where there are few rows, so
/// that all threads get work. A function of the phase and the widths only, never of the number of threads.
[[nodiscard]] int64_t query_tile_rows(const Phase& phase, const TileLayout& layout);

/// Groups [group_begin, group_end) of a pass (several if they are small), or the positions [begin, end) of
/// one.
struct QueryJob {
  const Pass* pass = nullptr;
  int64_t pass_index = 0;
  int64_t group_begin = 0;
  int64_t group_end = 0;
  int64_t begin = 0;  ///< positions, used when it is one group
  int64_t end = 0;
  int64_t entry_table = -1;  ///< place of the tile in EntryRanges; negative: the whole group

  /// Those of the positions of one of its groups that it has.
  [[nodiscard]] std::pair<int64_t, int64_t> positions_of(const QueryGroup& group) const {
    return group_end - group_begin == 1 ? std::pair(begin, end) : std::pair(group.begin, group.end);
  }
};

/// All jobs of a phase; expensive ones (the last rows of a triangle) come first.
[[nodiscard]] std::vector<QueryJob> make_jobs(const Phase& phase, int64_t tile_rows);

/// Where the entries of each row visit that belong to each query tile begin. One walk through the entries of
/// a pass, which would else be searched once for every tile.
class EntryRanges {
 public:
  explicit EntryRanges(const std::vector<QueryJob>& jobs);

  /// [first, last): the entries of row visit number `visit` of the job's pass that lie in the job's
  /// positions. For a job of several groups: all entries of the visit.
  [[nodiscard]] std::pair<int64_t, int64_t> find(const QueryJob& job, int64_t visit) const {
    const RowVisit& whole = job.pass->row_visits[static_cast<size_t>(visit)];
    if (job.entry_table < 0) return {whole.first_entry, whole.last_entry};
    const QueryGroup& group = job.pass->groups[static_cast<size_t>(job.group_begin)];
    const int64_t visits = group.last_row_visit - group.first_row_visit;
    const int64_t* begins = begins_.data() + job.entry_table + visit - group.first_row_visit;
    return {begins[0], begins[visits]};
  }

 private:
  std::vector<int64_t> begins_;  // by split group: tile by tile, and in it by visit; then where the last end
};

/// The lists of a phase that are packed once: those that many query tiles visit, and the segments that rows
/// visit. Indexed by pass and list; null where a job packs its own tiles, or rows visit no segments.
class SharedLists {
 public:
  SharedLists(const AttentionProblem& problem, const Phase& phase, const TileLayout& layout,
              int64_t tile_rows);

  [[nodiscard]] const PackedList* find(int64_t pass, int64_t list) const {
    const int64_t slot = slots_[static_cast<size_t>(first_slot_[static_cast<size_t>(pass)] + list)];
    return slot < 0 ? nullptr : &packed_[static_cast<size_t>(slot)];
  }
  [[nodiscard]] const PackedSegments* find_segments(int64_t pass, int64_t list) const {
    const int64_t slot = segment_slots_[static_cast<size_t>(first_slot_[static_cast<size_t>(pass)] + list)];
    return slot < 0 ? nullptr : &segments_[static_cast<size_t>(slot)];
  }

 private:
  /// A list that is packed, and which of its segments.
  struct Source {
    const Pass* pass;
    const KeyList* list;
    std::vector<int32_t> segments;
  };
  void pack_lists(const AttentionProblem& problem, const TileLayout& layout,
                  const std::vector<Source>& sources);
  void pack_segments(const AttentionProblem& problem, const TileLayout& layout,
                     const std::vector<Source>& sources);

  std::vector<int64_t> first_slot_;
  std::vector<int64_t> slots_;
  std::vector<int64_t> segment_slots_;
  Buffer<float> storage_;  // one allocation for all: small ones would be new pages every time
  Buffer<float> segment_storage_;
  std::vector<PackedList> packed_;
  std::vector<PackedSegments> segments_;
};

/// The segments of each list that rows of the pass visit, increasing.
[[nodiscard]] std::vector<std::vector<int32_t>> visited_segments(const Pass& pass);

/// Whether the phase's groups hold every query row of every head.
[[nodiscard]] bool covers_all_rows(const Phase& phase, const AttentionProblem& problem);

}  // namespace hyperattn
