#include "algorithms/engines/cpu/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "algorithms/plan.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kColumnsAtOnce = 16;  // one cache line of a row of V

/// Ranges of columns [begin, end) over keys that are added one by one.
class ColumnRanges {
 public:
  ColumnRanges(int64_t begin, int64_t end) : begin_(begin), end_(end) { clear(); }

  void clear() {
    const auto width = static_cast<size_t>(end_ - begin_);
    low_.assign(width, std::numeric_limits<float>::infinity());
    high_.assign(width, -std::numeric_limits<float>::infinity());
  }
  void add(const float* values) {
    for (int64_t c = begin_; c < end_; ++c) {
      const auto i = static_cast<size_t>(c - begin_);
      low_[i] = std::min(low_[i], values[c]);
      high_[i] = std::max(high_[i], values[c]);
    }
  }
  void hold(double slack, float* out, uint8_t* clipped) const {
    for (int64_t c = begin_; c < end_; ++c) {
      const auto i = static_cast<size_t>(c - begin_);
      const double more = slack * static_cast<double>(std::max(std::abs(low_[i]), std::abs(high_[i])));
      clipped[c] = is_clipped(out[c], low_[i] - more, high_[i] + more) ? 1 : 0;
      out[c] = std::min(std::max(out[c], low_[i]), high_[i]);
    }
  }

 private:
  int64_t begin_;
  int64_t end_;
  std::vector<float> low_;
  std::vector<float> high_;
};

void clip_columns(const AttentionProblem& problem, double slack, int64_t head, ColumnRanges ranges,
                  AttentionResult& result) {
  const MatrixView<const float> values = problem.values_of(head);
  const MatrixView<uint8_t> clipped = result.clipped.matrix(head);
  int64_t added = 0;
  for (int64_t row = 0; row < problem.query_count(); ++row) {
    const int64_t last = problem.causal ? row + problem.causal_offset() + 1 : problem.key_count();
    if (problem.window > 0) {
      ranges.clear();
      added = std::max<int64_t>(last - problem.window, 0);
    }
    for (; added < last; ++added) ranges.add(values.row(added));
    const int64_t flat_row = head * problem.query_count() + row;
    if (result.sums.sum.data()[flat_row] > 0)
      ranges.hold(slack, result.out.matrix(head).row(row), clipped.row(row));
  }
}

}  // namespace

void clip_to_values(const AttentionProblem& problem, double slack, AttentionResult& result) {
  const int64_t blocks = (problem.value_dim() + kColumnsAtOnce - 1) / kColumnsAtOnce;
  parallel_for(problem.heads() * blocks, [&](int64_t job, int) {
    const int64_t begin = job % blocks * kColumnsAtOnce;
    const int64_t end = std::min(begin + kColumnsAtOnce, problem.value_dim());
    clip_columns(problem, slack, job / blocks, ColumnRanges(begin, end), result);
  });
}

}  // namespace hyperattn
