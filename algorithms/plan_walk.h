// The one walk through a plan. Everything that looks at entries one by one (the reference engine, checks,
// tests, measures) goes through here; engines that are fast have loops of their own over the same structure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "algorithms/plan.h"

namespace hyperattn {

template <class Body>
void for_each_pass(const Plan& plan, const Body& body) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes) body(pass);
}

/// body(pass, group).
template <class Body>
void for_each_group(const Plan& plan, const Body& body) {
  for_each_pass(plan, [&](const Pass& pass) {
    for (const QueryGroup& group : pass.groups) body(pass, group);
  });
}

/// body(visit) for the visits that a group shares.
template <class Body>
void for_each_visit(const Pass& pass, const QueryGroup& group, const Body& body) {
  for (int64_t v = group.first_visit; v < group.last_visit; ++v) body(pass.visits[static_cast<size_t>(v)]);
}

/// body(row_visit) for the visits of single rows of a group.
template <class Body>
void for_each_row_visit(const Pass& pass, const QueryGroup& group, const Body& body) {
  for (int64_t v = group.first_row_visit; v < group.last_row_visit; ++v)
    body(pass.row_visits[static_cast<size_t>(v)]);
}

/// Ranks of a list, of a segment or of a visit.
struct SegmentRange {
  int64_t begin = 0;
  int64_t end = 0;
};
[[nodiscard]] inline SegmentRange segment_of(const KeyList& list, int64_t segment) {
  const auto t = static_cast<size_t>(segment);
  return {(*list.segments)[t], (*list.segments)[t + 1]};
}

/// The ranks of a visit that any of the positions [first, last) may see: none where the end is not behind the
/// beginning.
[[nodiscard]] inline SegmentRange visible_ranks(const Pass& pass, const Visit& visit, int64_t first,
                                                int64_t last) {
  if (!pass.triangular) return {visit.begin, visit.end};
  return {std::max(visit.begin, pass.first_visible(first)), std::min(visit.end, pass.last_visible(last - 1))};
}

[[nodiscard]] inline bool is_excluded(const Pass& pass, const Visit& visit, int64_t rank) {
  return std::binary_search(pass.excluded.begin() + visit.excluded_begin,
                            pass.excluded.begin() + visit.excluded_end, static_cast<int32_t>(rank));
}

/// One weighted entry of a pass: the query at `position` and the key at `rank` of `list`.
struct PlanEntry {
  int64_t position = 0;
  const KeyList* list = nullptr;
  int64_t rank = 0;

  [[nodiscard]] int64_t key_row() const { return list->order[rank]; }  // of K, or of the synthetic keys
  /// log of the weight with its factor; for a signed list log of what N and D are times.
  [[nodiscard]] double log_weight() const {
    const auto given = static_cast<double>(list->log_weight_of(rank));
    if (!list->has_factor()) return given;
    return given + std::log1p(static_cast<double>((*list->factor.row)[static_cast<size_t>(position)]) *
                              static_cast<double>((*list->factor.rank)[static_cast<size_t>(rank)]));
  }
  [[nodiscard]] double numerator() const {
    return list->signed_weights ? list->signed_weights->numerator[static_cast<size_t>(rank)] : 1.0;
  }
  [[nodiscard]] double denominator() const {
    return list->signed_weights ? list->signed_weights->denominator[static_cast<size_t>(rank)] : 1.0;
  }
};

/// body(entry) for every entry of one position of a group, removed keys (log-weight −∞) left out, in the
/// order in which the row adds them.
template <class Body>
void for_each_entry_of_row(const Pass& pass, const QueryGroup& group, int64_t position, const Body& body) {
  const auto add = [&](const KeyList& list, int64_t rank) {
    if (list.log_weight_of(rank) > -std::numeric_limits<float>::infinity())
      body(PlanEntry{position, &list, rank});
  };
  for_each_visit(pass, group, [&](const Visit& visit) {
    const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
    const auto [begin, end] = visible_ranks(pass, visit, position, position + 1);
    for (int64_t rank = begin; rank < end; ++rank)
      if (!is_excluded(pass, visit, rank)) add(list, rank);
  });
  for_each_row_visit(pass, group, [&](const RowVisit& visit) {
    const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
    const auto first = pass.row_entries.begin() + visit.first_entry;
    const auto last = pass.row_entries.begin() + visit.last_entry;
    const auto own = std::lower_bound(
        first, last, position, [](const RowEntry& entry, int64_t wanted) { return entry.position < wanted; });
    if (own == last || own->position != position) return;
    const SegmentRange range = segment_of(list, visit.segment);
    for (int64_t rank = range.begin; rank < range.end; ++rank)
      if ((own->skip >> (rank - range.begin) & 1) == 0) add(list, rank);
  });
}

/// body(pass, group, entry) for every entry of a plan.
template <class Body>
void for_each_entry(const Plan& plan, const Body& body) {
  for_each_group(plan, [&](const Pass& pass, const QueryGroup& group) {
    for (int64_t position = group.begin; position < group.end; ++position)
      for_each_entry_of_row(pass, group, position, [&](const PlanEntry& entry) { body(pass, group, entry); });
  });
}

}  // namespace hyperattn
