// Wall-clock stopwatch, and per-worker stage clocks for parallel regions. Stages are small integers here;
// what they mean (hash, sort, ...) is the business of the layer above.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

namespace hyperattn {

class Stopwatch {
 public:
  Stopwatch() : start_(Clock::now()) {}
  void restart() { start_ = Clock::now(); }
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_;
};

/// Seconds by stage. In a parallel region every worker fills its own row; `mean_over_workers` is then
/// comparable with the region's wall time, to which the stages add up when the load is balanced.
class StageClock {
 public:
  static constexpr int kMaxStages = 16;
  using Row = std::array<double, kMaxStages>;

  explicit StageClock(int workers) : rows_(static_cast<size_t>(workers)) {}

  void add(int worker, int stage, double seconds) {
    rows_[static_cast<size_t>(worker)].seconds[static_cast<size_t>(stage)] += seconds;
  }
  [[nodiscard]] Row mean_over_workers() const {
    Row mean{};
    for (const Padded& row : rows_)
      for (int s = 0; s < kMaxStages; ++s)
        mean[static_cast<size_t>(s)] +=
            row.seconds[static_cast<size_t>(s)] / static_cast<double>(rows_.size());
    return mean;
  }

 private:
  struct alignas(64) Padded {  // a cache line of its own: workers must not share one
    Row seconds{};
  };
  std::vector<Padded> rows_;
};

}  // namespace hyperattn
