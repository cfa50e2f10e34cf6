// Parallel loops over OpenMP. Work is handed out dynamically, so a loop body must write only what its index
// owns; then results do not depend on the number of threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>

#include "core/cancel.h"

namespace hyperattn {

/// Threads that the next parallel loop uses. Set with `set_thread_count`; the default is OpenMP's.
[[nodiscard]] inline int thread_count() {
  return std::min(omp_get_max_threads(), omp_get_thread_limit());
}
/// From now on exactly so many, not fewer at OpenMP's own discretion (OMP_DYNAMIC).
inline void set_thread_count(int threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
}

/// Starts a team and counts it: fewer than were set where the environment has a limit of its own
/// (OMP_THREAD_LIMIT, OMP_MAX_ACTIVE_LEVELS).
[[nodiscard]] inline int started_threads() {
  int started = 1;
#pragma omp parallel
#pragma omp single
  started = omp_get_num_threads();
  return started;
}

/// Neighbours that a thread takes at once of many small pieces of work: one by one, threads wait for each
/// other to take them.
[[nodiscard]] inline int64_t small_pieces(int64_t count) {
  constexpr int64_t kTurns = 8;  // of a thread, so that all are busy to the end
  return std::max<int64_t>(count / (kTurns * thread_count()), 1);
}

/// The same where each takes `microseconds`; all of them where a team of threads is not worth while. It takes
/// microseconds to start one and tens where it has gone to sleep, and more where others run beside it:
/// threads that wait for their next loop slow the one that goes on, and a loop ends when the last of them has
/// had its turn.
[[nodiscard]] inline int64_t pieces_worth_a_team(int64_t count, double microseconds) {
  constexpr double kWorth = 250;
  const bool is_worth_it = static_cast<double>(count) * microseconds > kWorth;
  return is_worth_it ? small_pieces(count) : std::max<int64_t>(count, 1);
}

/// Calls body(index, worker) for every index in [0, count), worker in [0, thread_count()); a thread takes
/// `together` neighbours at once, and the calling one all of them where there are no more. An exception ends
/// the loop early and is rethrown here (the first one, if several). Throws Cancelled when asked to stop (see
/// core/cancel.h).
template <class Body>
void parallel_for(int64_t count, const Body& body, int64_t together = 1) {
  if (count <= 0) return;
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
#pragma omp parallel for schedule(dynamic, together) if (count > together)
  for (int64_t index = 0; index < count; ++index) {
    if (failed.load(std::memory_order_relaxed)) continue;
    try {
      throw_if_cancelled();
      body(index, omp_get_thread_num());
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// body(i) for every i below `count`, which takes less than a microsecond.
template <class Body>
void for_small_pieces(size_t count, const Body& body) {
  const auto all = static_cast<int64_t>(count);
  parallel_for(
      all, [&](int64_t i, int) { body(static_cast<size_t>(i)); }, pieces_worth_a_team(all, 1));
}

/// Sets `size` values in parallel; the first touch of new memory costs more than the write.
template <class T>
void parallel_fill(T* data, int64_t size, T value) {
  constexpr int64_t kChunk = 1 << 18;
  parallel_for((size + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    std::fill(data + chunk * kChunk, data + std::min(size, (chunk + 1) * kChunk), value);
  });
}

}  // namespace hyperattn
