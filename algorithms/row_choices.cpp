#include "algorithms/row_choices.h"

#include <algorithm>
#include <utility>

namespace hyperattn {

SegmentedRows::Stretch SegmentedRows::add(const std::vector<int32_t>& rows) {
  const Stretch stretch{static_cast<int64_t>(rows_.size()), static_cast<int32_t>(segments_.size()) - 1};
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  const auto end = static_cast<int32_t>(rows_.size());
  while (segments_.back() < end)
    segments_.push_back(std::min(segments_.back() + static_cast<int32_t>(kSegmentKeys), end));
  return stretch;
}

KeyList SegmentedRows::take(Stage stage) {
  KeyList list;
  list.order = RowOrder::list(std::move(rows_));
  list.segments = std::make_shared<const std::vector<int32_t>>(std::move(segments_));
  list.stage = stage;
  return list;
}

RowChoices::RowChoices(int64_t rows, int64_t places)
    : rows_(rows),
      places_(places),
      segments_((places + kSegmentKeys - 1) / kSegmentKeys),
      words_(static_cast<size_t>(rows * segments_), 0) {}

void RowChoices::visit(PassBuilder& pass, int32_t list, SegmentedRows::Stretch stretch,
                       int64_t first_position, int64_t shared_places) const {
  std::vector<uint8_t> together(static_cast<size_t>(segments_));
  for (int64_t segment = 0; segment < segments_; ++segment)
    together[static_cast<size_t>(segment)] =
        segment_end(segment) <= shared_places && all_alike(segment) ? 1 : 0;
  for (int64_t first = 0; first < segments_;) {
    int64_t last = first;
    while (last < segments_ && together[static_cast<size_t>(last)] != 0) ++last;
    if (first < last) visit_together(pass, list, stretch.first_rank, first, last);
    first = last + 1;
  }
  for (int64_t segment = 0; segment < segments_; ++segment)
    if (together[static_cast<size_t>(segment)] == 0)
      visit_by_rows(pass, list, stretch, first_position, segment);
}

bool RowChoices::all_alike(int64_t segment) const {
  for (int64_t row = 1; row < rows_; ++row)
    if (word(row, segment) != word(0, segment)) return false;
  return true;
}

void RowChoices::visit_together(PassBuilder& pass, int32_t list, int64_t first_rank, int64_t first,
                                int64_t last) const {
  const int64_t begin = first * kSegmentKeys;
  const int64_t end = segment_end(last - 1);
  std::vector<int32_t> excluded;
  for (int64_t place = begin; place < end; ++place)
    if ((word(0, place / kSegmentKeys) >> (place % kSegmentKeys) & 1) == 0)
      excluded.push_back(static_cast<int32_t>(first_rank + place));
  if (static_cast<int64_t>(excluded.size()) < end - begin)
    pass.visit_except(list, first_rank + begin, first_rank + end, excluded);
}

void RowChoices::visit_by_rows(PassBuilder& pass, int32_t list, SegmentedRows::Stretch stretch,
                               int64_t first_position, int64_t segment) const {
  const auto every = static_cast<uint16_t>((1U << (segment_end(segment) - segment * kSegmentKeys)) - 1);
  std::vector<RowEntry> entries;
  for (int64_t row = 0; row < rows_; ++row)
    if (const uint16_t chosen = word(row, segment); chosen != 0)
      entries.push_back({static_cast<int32_t>(first_position + row), static_cast<uint16_t>(every & ~chosen)});
  pass.visit_segment(list, stretch.first_segment + static_cast<int32_t>(segment), entries);
}

}  // namespace hyperattn
