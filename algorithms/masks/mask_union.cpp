#include "algorithms/masks/mask_union.h"

#include <algorithm>
#include <utility>

#include "algorithms/row_choices.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Rows of masks in row order that go through one list together: a window's keys are nearly theirs alone, and
// a GPU's tile has as many rows, each of which would go through the keys of a longer unit. On the CPU, whose
// tiles are longer, `lsh` with blocks and a window of 64 at n = 16384 took 45.9, 41.0, 38.1, 36.4 and 35.4 ms
// with units of 16, 32, 64, 128 and 256 rows (d = 64, Zen 4, one thread).
constexpr int64_t kUnitRows = 64;

// Consecutive groups of a mask, whose keys are listed together.
struct Unit {
  size_t first_group = 0;
  size_t last_group = 0;
  std::vector<RankRange> ranges;  // of all groups, merged
};

void add_ranges(const NodeMask& mask, const MaskGroup& group, std::vector<RankRange>& ranges) {
  ranges.insert(ranges.end(), mask.ranges.begin() + group.first_range,
                mask.ranges.begin() + group.last_range);
}

void merge(std::vector<RankRange>& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const RankRange& a, const RankRange& b) { return a.begin < b.begin; });
  std::vector<RankRange> merged;
  for (const RankRange& range : ranges) {
    if (!merged.empty() && range.begin <= merged.back().end)
      merged.back().end = std::max(merged.back().end, range.end);
    else
      merged.push_back(range);
  }
  ranges = std::move(merged);
}

std::vector<Unit> units_of(const NodeMask& mask) {
  const bool sorted = !mask.queries.is_run();
  std::vector<Unit> units;
  int64_t rows = 0;
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    if (units.empty() || sorted || rows + group.end - group.begin > kUnitRows) {
      units.push_back({g, g, {}});
      rows = 0;
    }
    units.back().last_group = g + 1;
    rows += group.end - group.begin;
    add_ranges(mask, group, units.back().ranges);
  }
  for (Unit& unit : units) merge(unit.ranges);
  return units;
}

std::vector<int32_t> keys_of(const NodeMask& mask, const Unit& unit) {
  std::vector<int32_t> rows;
  for (const RankRange& range : unit.ranges)
    for (int64_t rank = range.begin; rank < range.end; ++rank)
      rows.push_back(static_cast<int32_t>(mask.keys[rank]));
  return rows;
}

// Place of a rank in the unit's list.
int64_t place_of(const Unit& unit, int64_t rank) {
  int64_t before = 0;
  for (const RankRange& range : unit.ranges) {
    if (rank < range.end) return before + rank - range.begin;
    before += range.end - range.begin;
  }
  return before;
}

RowChoices choices_of(const NodeMask& mask, const Unit& unit, const UnionRows& earlier) {
  int64_t places = 0;
  for (const RankRange& range : unit.ranges) places += range.end - range.begin;
  const int64_t first = mask.groups[unit.first_group].begin;
  RowChoices choices(mask.groups[unit.last_group - 1].end - first, places);
  for (size_t g = unit.first_group; g < unit.last_group; ++g) {
    const MaskGroup& group = mask.groups[g];
    for (int64_t r = group.first_range; r < group.last_range; ++r) {
      const RankRange& range = mask.ranges[static_cast<size_t>(r)];
      const int64_t place = place_of(unit, range.begin);
      for (int64_t position = group.begin; position < group.end; ++position)
        for (int64_t rank = range.begin; rank < range.end; ++rank)
          if (!earlier.holds(mask.queries[position], mask.keys[rank]))
            choices.choose(position - first, place + rank - range.begin);
    }
  }
  return choices;
}

Pass further_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                  const UnionRows& earlier, bool rows_apart) {
  const std::vector<Unit> units = units_of(mask);
  std::vector<RowChoices> choices(units.size(), RowChoices(0, 0));
  parallel_for(static_cast<int64_t>(units.size()), [&](int64_t u, int) {
    choices[static_cast<size_t>(u)] = choices_of(mask, units[static_cast<size_t>(u)], earlier);
  });
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  SegmentedRows rows;
  std::vector<SegmentedRows::Stretch> stretches;
  for (const Unit& unit : units) stretches.push_back(rows.add(keys_of(mask, unit)));
  const int32_t list = pass.add_list(rows.take(Stage::block));
  for (size_t u = 0; u < units.size(); ++u) {
    const int64_t begin = mask.groups[units[u].first_group].begin;
    pass.group(begin, mask.groups[units[u].last_group - 1].end);
    choices[u].visit(pass, list, stretches[u], begin, rows_apart ? 0 : choices[u].places());
  }
  return pass.take();
}

}  // namespace

UnionRows::UnionRows(const NodeMask& mask, const AttentionNode& node, size_t further) : node_(node) {
  const auto add = [&](const NodeMask& own) {
    Part part{&own, std::vector<int32_t>(static_cast<size_t>(node.query_count()))};
    for (size_t g = 0; g < own.groups.size(); ++g)
      for (int64_t position = own.groups[g].begin; position < own.groups[g].end; ++position)
        part.group_of_row[static_cast<size_t>(own.queries[position] - node.query_begin)] =
            static_cast<int32_t>(g);
    parts_.push_back(std::move(part));
  };
  add(mask);
  for (size_t f = 0; f < further; ++f) add(mask.further[f]);
}

bool UnionRows::holds(size_t parts, int64_t row, int64_t key) const {
  for (size_t p = 0; p < parts; ++p) {
    const Part& part = parts_[p];
    if (hyperattn::holds(*part.mask, group_of(part, row), part.mask->rank_of(key - node_.key_begin)))
      return true;
  }
  return false;
}

bool UnionRows::holds(int64_t row, int64_t key) const {
  return holds(parts_.size(), row, key);
}

std::vector<int32_t> UnionRows::keys_of(int64_t row) const {
  std::vector<int32_t> keys;
  for (size_t p = 0; p < parts_.size(); ++p) {
    const NodeMask& mask = *parts_[p].mask;
    const MaskGroup& group = group_of(parts_[p], row);
    for (int64_t r = group.first_range; r < group.last_range; ++r) {
      const RankRange& range = mask.ranges[static_cast<size_t>(r)];
      for (int64_t rank = range.begin; rank < range.end; ++rank)
        if (!holds(p, row, mask.keys[rank])) keys.push_back(static_cast<int32_t>(mask.keys[rank]));
    }
  }
  return keys;
}

std::vector<Pass> further_passes(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                                 bool rows_apart) {
  std::vector<Pass> passes;
  for (size_t f = 0; f < mask.further.size(); ++f)
    passes.push_back(
        further_pass(problem, place, mask.further[f], UnionRows(mask, place.node, f), rows_apart));
  return passes;
}

}  // namespace hyperattn
