// Rows of Q, K and V that the next job gathers, asked for while this one multiplies: they lie scattered, and
// a job that asks for them only when it gathers them waits for memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "algorithms/engines/cpu/schedule.h"
#include "algorithms/kernels/packing.h"

namespace hyperattn {

class RowsAhead {
 public:
  /// What `job` gathers first: its queries, and keys and values of its first tile that no list has packed.
  /// Null: nothing.
  void begin(const AttentionProblem& problem, const TileLayout& layout, const SharedLists& lists,
             const QueryJob* job);

  /// Asks for so many of the rows that are left.
  void ask(int64_t count) {
    const int64_t last = std::min(next_ + count, count_);
    for (; next_ < last; ++next_) {
      const Row& row = rows_[static_cast<size_t>(next_)];
      for (int64_t i = 0; i < row.length; i += kLine) __builtin_prefetch(row.data + i, 0, kSecondLevel);
    }
  }

 private:
  static constexpr int64_t kLine = 16;
  static constexpr int kSecondLevel = 2;
  struct Row {
    const float* data;
    int64_t length;
  };
  void add(const float* row, int64_t length) { rows_[static_cast<size_t>(count_++)] = {row, length}; }

  std::array<Row, static_cast<size_t>(kQueryTile + 2 * kKeyTile)> rows_;
  int64_t count_ = 0;
  int64_t next_ = 0;
};

}  // namespace hyperattn
