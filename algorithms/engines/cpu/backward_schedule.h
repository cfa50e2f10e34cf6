// A schedule for the backward pass in which every task adds to its own rows of dQ, dK and dV, so that one
// pass over the entries is deterministic and parallel. Positions and ranks are cut into T chunks each; at
// step s the pairs (query chunk i, key chunk (i + s) mod T) are independent of each other, and steps follow
// each other in order.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/plan.h"

namespace hyperattn {

/// Half-open range of positions or ranks.
struct ChunkRange {
  int64_t begin;
  int64_t end;
};
/// Chunk `index` when `total` things are cut into `chunks`.
[[nodiscard]] inline ChunkRange chunk_range(int64_t total, int64_t chunks, int64_t index) {
  return {total * index / chunks, total * (index + 1) / chunks};
}

/// Ranks [first, first + count) of a list of a pass, and where the gradients of its keys are gathered.
struct ListPiece {
  const Pass* pass = nullptr;
  int64_t list = 0;
  /// Which round the piece belongs to: rounds follow each other, since pieces of one list share query rows,
  /// and heads that share keys share their gradients.
  int64_t round = 0;
  int64_t first = 0;
  int64_t count = 0;
  int64_t query_chunks = 1;
  std::vector<int64_t> key_borders;  ///< key chunk c is the ranks [key_borders[c], key_borders[c + 1])
  /// Copies of the accumulators, one per query chunk, for a list so short that its chunks would not feed all
  /// threads.
  int64_t replicas = 1;
  /// Keys of the piece are distinct rows of K, and no segments: gradients are added to dK and dV directly.
  /// Otherwise they
  /// gather by rank and are scattered in rank order afterwards.
  bool direct = false;

  [[nodiscard]] int64_t key_chunks() const { return static_cast<int64_t>(key_borders.size()) - 1; }
  [[nodiscard]] ChunkRange ranks_of(int64_t key_chunk) const {
    const auto c = static_cast<size_t>(key_chunk);
    return {key_borders[c], key_borders[c + 1]};
  }
};

/// The entries of one (query chunk, key chunk) pair.
struct BackwardTask {
  const ListPiece* piece = nullptr;
  int64_t query_chunk = 0;
  int64_t key_chunk = 0;
};

/// The pieces of the phase's lists number `list` (one or more for each pass that has such a list), by round.
[[nodiscard]] std::vector<std::vector<ListPiece>> make_pieces(const AttentionProblem& problem,
                                                              const Phase& phase, int64_t list);

/// Tasks by step; a task is named only if the plan has entries in its pair of chunks. Tasks of a step are
/// independent.
[[nodiscard]] std::vector<std::vector<BackwardTask>> make_steps(const std::vector<ListPiece>& pieces);

}  // namespace hyperattn
