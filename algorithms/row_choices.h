// Rows of one group that choose their own keys of a list: what all of them choose alike becomes visits of the
// group, the rest visits of single rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/plan_builder.h"

namespace hyperattn {

/// Key rows for a list that is cut into segments, stretch by stretch.
class SegmentedRows {
 public:
  struct Stretch {
    int64_t first_rank = 0;
    int32_t first_segment = 0;
  };

  /// Appends a stretch of key rows of the problem; a segment begins at its first and at every 16th.
  Stretch add(const std::vector<int32_t>& rows);
  /// The list of all stretches, weights 1.
  [[nodiscard]] KeyList take(Stage stage);

 private:
  std::vector<int32_t> rows_;
  std::vector<int32_t> segments_ = {0};
};

class RowChoices {
 public:
  /// For `rows` rows of a group and `places` places of a stretch; nothing is chosen.
  RowChoices(int64_t rows, int64_t places);

  [[nodiscard]] int64_t places() const { return places_; }

  void choose(int64_t row, int64_t place) {
    words_[static_cast<size_t>(row * segments_ + place / kSegmentKeys)] |=
        static_cast<uint16_t>(1U << (place % kSegmentKeys));
  }

  /// The open group, whose rows stand at `first_position` and after, visits what they have chosen. Segments
  /// that end within the first `shared_places` and in which all rows choose alike are visited by all rows
  /// together. (How a row's visits are split changes the rounding of its sum; nothing else.)
  void visit(PassBuilder& pass, int32_t list, SegmentedRows::Stretch stretch, int64_t first_position,
             int64_t shared_places) const;

 private:
  [[nodiscard]] uint16_t word(int64_t row, int64_t segment) const {
    return words_[static_cast<size_t>(row * segments_ + segment)];
  }
  [[nodiscard]] int64_t segment_end(int64_t segment) const {
    return std::min((segment + 1) * kSegmentKeys, places_);
  }
  [[nodiscard]] bool all_alike(int64_t segment) const;
  void visit_together(PassBuilder& pass, int32_t list, int64_t first_rank, int64_t first, int64_t last) const;
  void visit_by_rows(PassBuilder& pass, int32_t list, SegmentedRows::Stretch stretch, int64_t first_position,
                     int64_t segment) const;

  int64_t rows_;
  int64_t places_;
  int64_t segments_;
  std::vector<uint16_t> words_;  // rows × segments: bit b of a segment's word is its place b
};

}  // namespace hyperattn
