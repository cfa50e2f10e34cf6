// A schedule for the backward pass in which every task adds to its own rows of dQ, dK and dV, so that one
// pass over the entries is deterministic and parallel. Positions and ranks are cut into T chunks each; at
// step s the pairs (query chunk i, key chunk (i + s) mod T) are independent of each other, and steps follow
// each other in order.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/plan.h"

namespace hyperattn {

/// Ranks [first, first + count) of a list of a pass, and where the gradients of its keys are gathered.
struct KeySegment {
  const Pass* pass = nullptr;
  int64_t list = 0;
  int64_t piece = 0;  ///< number of this piece of the list
  int64_t first = 0;
  int64_t count = 0;
  int64_t query_chunks = 1;
  int64_t key_chunks = 1;
  /// Copies of the accumulators, one per query chunk, for a list so short that its chunks would not feed all
  /// threads.
  int64_t replicas = 1;
  /// Keys of the segment are distinct rows of K: gradients are added to dK and dV directly. Otherwise they
  /// gather by rank and are scattered in rank order afterwards.
  bool direct = false;
};

/// The entries of one (query chunk, key chunk) pair.
struct BackwardTask {
  const KeySegment* segment = nullptr;
  int64_t query_chunk = 0;
  int64_t key_chunk = 0;
};

/// Half-open range of chunk `index` when `total` things are cut into `chunks`.
struct ChunkRange {
  int64_t begin;
  int64_t end;
};
[[nodiscard]] inline ChunkRange chunk_range(int64_t total, int64_t chunks, int64_t index) {
  return {total * index / chunks, total * (index + 1) / chunks};
}

/// The segments of the phase's lists number `list` (one or more per pass that has such a list).
[[nodiscard]] std::vector<KeySegment> make_segments(const Phase& phase, int64_t list, int64_t key_count);

/// Tasks by step; a task is named only if the plan has entries in its pair of chunks. Tasks of a step are
/// independent.
[[nodiscard]] std::vector<std::vector<BackwardTask>> make_steps(const std::vector<KeySegment>& segments);

}  // namespace hyperattn
