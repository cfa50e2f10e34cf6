#include "algorithms/masks/node_mask.h"

#include <algorithm>
#include <utility>

namespace hyperattn {
namespace {

// Below this average length, a group's ranges are gathered into one run.
constexpr int64_t kScatteredRange = 32;

NodeMask in_row_order(const AttentionNode& node) {
  NodeMask mask;
  mask.queries = RowOrder::run(node.query_begin, node.query_count());
  mask.keys = RowOrder::run(node.key_begin, node.key_count());
  return mask;
}

// Appends a group; one whose ranges equal those of the group before it is merged into that.
class GroupWriter {
 public:
  GroupWriter(const AttentionNode& node, NodeMask& mask) : node_(node), mask_(mask) {}

  // Key rows of the problem [key_begin, key_end), clipped to the node; increasing within a group.
  void add_range(int64_t key_begin, int64_t key_end) {
    const int64_t begin = std::max(key_begin, node_.key_begin) - node_.key_begin;
    const int64_t end = std::min(key_end, node_.key_end) - node_.key_begin;
    if (begin >= end) return;
    auto& ranges = mask_.ranges;
    if (static_cast<int64_t>(ranges.size()) > first_range_ && ranges.back().end == begin) {
      ranges.back().end = end;
    } else {
      ranges.push_back({begin, end});
    }
  }

  // Closes the group that ends before query row `query_end` of the problem.
  void finish_group(int64_t query_end) {
    const auto last_range = static_cast<int64_t>(mask_.ranges.size());
    const int64_t end = query_end - node_.query_begin;
    if (end <= position_) return;
    if (!mask_.groups.empty() && same_as_previous(last_range)) {
      mask_.groups.back().end = end;
      mask_.ranges.resize(static_cast<size_t>(first_range_));
    } else {
      mask_.groups.push_back({position_, end, first_range_, last_range});
    }
    position_ = end;
    first_range_ = static_cast<int64_t>(mask_.ranges.size());
  }

 private:
  [[nodiscard]] bool same_as_previous(int64_t last_range) const {
    const MaskGroup& previous = mask_.groups.back();
    const auto at = [&](int64_t range) { return mask_.ranges.begin() + range; };
    return std::equal(
        at(previous.first_range), at(previous.last_range), at(first_range_), at(last_range),
        [](const RankRange& a, const RankRange& b) { return a.begin == b.begin && a.end == b.end; });
  }

  const AttentionNode& node_;
  NodeMask& mask_;
  int64_t position_ = 0;
  int64_t first_range_ = 0;
};

NodeMask mask_of_rows(const AttentionNode& node, const HeavyMask::Pattern& pattern) {
  NodeMask mask = in_row_order(node);
  GroupWriter writer(node, mask);
  for (int64_t row = node.query_begin; row < node.query_end; ++row) {
    const auto first = pattern.indices.begin() + pattern.indptr[static_cast<size_t>(row)];
    const auto last = pattern.indices.begin() + pattern.indptr[static_cast<size_t>(row) + 1];
    for (auto key = std::lower_bound(first, last, node.key_begin); key != last && *key < node.key_end; ++key)
      writer.add_range(*key, *key + 1);
    writer.finish_group(row + 1);
  }
  return mask;
}

NodeMask mask_of_blocks(const AttentionNode& node, const std::vector<MaskBlock>& blocks) {
  std::vector<MaskBlock> waiting;
  std::vector<int64_t> borders = {node.query_end};
  for (const MaskBlock& block : blocks) {
    if (block.query_end <= node.query_begin || block.query_begin >= node.query_end) continue;
    if (block.key_end <= node.key_begin || block.key_begin >= node.key_end) continue;
    waiting.push_back(block);
    borders.push_back(std::clamp(block.query_begin, node.query_begin, node.query_end));
    borders.push_back(std::clamp(block.query_end, node.query_begin, node.query_end));
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  std::sort(waiting.begin(), waiting.end(),
            [](const MaskBlock& a, const MaskBlock& b) { return a.query_begin < b.query_begin; });
  NodeMask mask = in_row_order(node);
  GroupWriter writer(node, mask);
  std::vector<MaskBlock> active;  // that hold the current rows, in order of keys
  auto next = waiting.begin();
  int64_t row = node.query_begin;
  for (const int64_t border : borders) {
    for (; next != waiting.end() && next->query_begin <= row; ++next) active.push_back(*next);
    active.erase(
        std::remove_if(active.begin(), active.end(), [&](const MaskBlock& b) { return b.query_end <= row; }),
        active.end());
    std::sort(active.begin(), active.end(),
              [](const MaskBlock& a, const MaskBlock& b) { return a.key_begin < b.key_begin; });
    if (border > row)
      for (const MaskBlock& block : active) writer.add_range(block.key_begin, block.key_end);
    writer.finish_group(border);
    row = std::max(row, border);
  }
  return mask;
}

RowOrder order_of(SortedRows& sorted) {
  return sorted.remote ? RowOrder::on_device(std::move(sorted.remote))
                       : RowOrder::list(std::move(sorted.order));
}

bool is_scattered(const NodeMask& mask) {
  int64_t keys = 0;
  for (const RankRange& range : mask.ranges) keys += range.end - range.begin;
  const auto ranges = static_cast<int64_t>(mask.ranges.size());
  return ranges > static_cast<int64_t>(mask.groups.size()) && keys < kScatteredRange * ranges;
}

void list_groups(const std::vector<RankBlock>& blocks, NodeMask& mask) {
  mask.ranges.reserve(blocks.size());
  mask.groups.reserve(blocks.size());
  for (const RankBlock& block : blocks) {
    const auto range = static_cast<int64_t>(mask.ranges.size());
    mask.ranges.push_back({block.key_begin, block.key_end});
    if (!mask.groups.empty() && mask.groups.back().begin == block.query_begin)
      mask.groups.back().last_range = range + 1;  // the second half of a window that wraps
    else
      mask.groups.push_back({block.query_begin, block.query_end, range, range + 1});
  }
}

}  // namespace

NodeMask empty_mask(const AttentionNode& node) {
  NodeMask mask = in_row_order(node);
  mask.groups.push_back({0, node.query_count(), 0, 0});
  return mask;
}

const NodeMask& with_listed_groups(const NodeMask& mask, NodeMask& room) {
  if (!mask.groups.empty() || mask.block_size == 0) return mask;
  room = mask;
  list_groups(aligned_blocks(mask.queries.count, mask.keys.count, mask.block_size), room);
  return room;
}

NodeMask sorted_mask(SortedRows queries, SortedRows keys, const std::vector<RankBlock>& blocks) {
  NodeMask mask;
  mask.queries = order_of(queries);
  mask.keys = order_of(keys);
  mask.key_ranks = std::move(keys.ranks);
  mask.asked = std::move(keys.asked);
  list_groups(blocks, mask);
  return mask;
}

NodeMask band_mask(const AttentionProblem& problem, const AttentionNode& node, int64_t band_width) {
  NodeMask mask = in_row_order(node);
  GroupWriter writer(node, mask);
  for (int64_t row = node.query_begin; row < node.query_end; ++row) {
    const int64_t centre =
        problem.causal ? row + problem.causal_offset() : row * problem.key_count() / problem.query_count();
    writer.add_range(centre - band_width, centre + band_width + 1);
    writer.finish_group(row + 1);
  }
  return mask;
}

NodeMask pattern_mask(const AttentionNode& node, const HeavyMask::Pattern& pattern) {
  return pattern.indptr.empty() ? mask_of_blocks(node, pattern.blocks) : mask_of_rows(node, pattern);
}

std::vector<int64_t> borders_of(const NodeMask& mask) {
  std::vector<int64_t> borders = {mask.keys.count};
  for (const RankRange& range : mask.ranges) {
    borders.push_back(range.begin);
    borders.push_back(range.end);
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  return borders;
}

int64_t held_keys(const NodeMask& mask, const MaskGroup& group) {
  int64_t keys = 0;
  for (int64_t r = group.first_range; r < group.last_range; ++r) {
    const RankRange& range = mask.ranges[static_cast<size_t>(r)];
    keys += range.end - range.begin;
  }
  return keys;
}

bool holds(const NodeMask& mask, const MaskGroup& group, int64_t rank) {
  const auto first = mask.ranges.begin() + group.first_range;
  const auto last = mask.ranges.begin() + group.last_range;
  const auto range = std::partition_point(first, last, [rank](const RankRange& r) { return r.end <= rank; });
  return range != last && range->begin <= rank;
}

void append_masked_samples(const NodeMask& mask, const MaskGroup& group,
                           const std::vector<int32_t>& sample_ranks, std::vector<int32_t>& places) {
  auto next = sample_ranks.begin();
  for (int64_t r = group.first_range; r < group.last_range && next != sample_ranks.end(); ++r) {
    const RankRange& range = mask.ranges[static_cast<size_t>(r)];
    next = std::lower_bound(next, sample_ranks.end(), range.begin);
    for (; next != sample_ranks.end() && *next < range.end; ++next)
      places.push_back(static_cast<int32_t>(next - sample_ranks.begin()));
  }
}

GroupVisits GroupVisits::masked(const NodeMask& mask, Stage stage, PassBuilder& pass) {
  GroupVisits visits;
  const bool gathers = is_scattered(mask);
  std::vector<int32_t> gathered;
  visits.ranges_.reserve(mask.ranges.size());
  visits.begin_.reserve(mask.groups.size() + 1);
  for (const MaskGroup& group : mask.groups) {
    const auto begin = static_cast<int64_t>(gathered.size());
    for (int64_t r = group.first_range; r < group.last_range; ++r) {
      const RankRange& range = mask.ranges[static_cast<size_t>(r)];
      if (!gathers) visits.ranges_.push_back(range);
      for (int64_t rank = range.begin; gathers && rank < range.end; ++rank)
        gathered.push_back(static_cast<int32_t>(mask.keys[rank]));
    }
    const auto end = static_cast<int64_t>(gathered.size());
    if (end > begin) visits.ranges_.push_back({begin, end});
    visits.begin_.push_back(visits.ranges_.size());
  }
  visits.list_ = pass.add_keys(gathers ? RowOrder::list(std::move(gathered)) : mask.keys, stage);
  return visits;
}

GroupVisits GroupVisits::unmasked(const NodeMask& mask, Stage stage, PassBuilder& pass) {
  GroupVisits visits;
  visits.list_ = pass.add_keys(mask.keys, stage);
  for (const MaskGroup& group : mask.groups) {
    int64_t begin = 0;
    for (int64_t r = group.first_range; r < group.last_range; ++r) {
      const RankRange& range = mask.ranges[static_cast<size_t>(r)];
      if (begin < range.begin) visits.ranges_.push_back({begin, range.begin});
      begin = range.end;
    }
    if (begin < mask.keys.count) visits.ranges_.push_back({begin, mask.keys.count});
    visits.begin_.push_back(visits.ranges_.size());
  }
  return visits;
}

void GroupVisits::visit(size_t g, PassBuilder& pass) const {
  for (size_t r = begin_[g]; r < begin_[g + 1]; ++r) pass.visit(list_, ranges_[r].begin, ranges_[r].end);
}

}  // namespace hyperattn
