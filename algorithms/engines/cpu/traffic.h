// Bytes that a forward pass moves, counted from its plan and its jobs: what a call that is bound by memory
// pays for.
#pragma once

#include <cstdint>

#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

/// Bytes read or written outside the scratch memory of workers (a tile of queries and one of keys), by what
/// they are for. A tile that several jobs read counts once for each, though a cache may still hold it.
struct ForwardTraffic {
  int64_t hash = 0;     ///< rows of Q and K that are hashed where the plan has sorted them, and their codes
  int64_t sort = 0;     ///< codes, read to count and to place, and the orders written
  int64_t orders = 0;   ///< row numbers, excluded ranks, row visits' entries that jobs read
  int64_t queries = 0;  ///< rows of Q that jobs gather
  int64_t gathers = 0;  ///< rows of K and V that jobs gather into scratch
  int64_t packing = 0;  ///< rows of K and V that many jobs want: read, and written as tiles or segments
  int64_t tiles = 0;    ///< those tiles and segments, read by jobs
  int64_t results = 0;  ///< out, lse, references and sums: written, and read where a later phase goes on

  [[nodiscard]] int64_t planning() const { return hash + sort; }
  [[nodiscard]] int64_t total() const {
    return planning() + orders + queries + gathers + packing + tiles + results;
  }
};

/// Of run_forward in fp32 without options, and of hashing once for the plan's orders. Moments, linear values
/// and a clip to values are not counted. Packs the lists that the pass would pack; the same for any number of
/// threads.
[[nodiscard]] ForwardTraffic count_forward_traffic(const AttentionProblem& problem, const Plan& plan);

/// What no pass can do without: Q, K and V read once, out written once.
[[nodiscard]] int64_t least_forward_bytes(const AttentionProblem& problem);

}  // namespace hyperattn
