#include "algorithms/masks/heavy_mask.h"

#include <algorithm>
#include <map>
#include <string>

#include "core/error.h"

namespace hyperattn {
namespace {

std::string in_head(int64_t pattern, int64_t patterns) {
  return patterns == 1 ? "" : " of head " + std::to_string(pattern);
}

std::string text(int64_t begin, int64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

std::string describe(size_t index, const MaskBlock& block) {
  return "block " + std::to_string(index) + " (queries " + text(block.query_begin, block.query_end) +
         ", keys " + text(block.key_begin, block.key_end) + ")";
}

void check_range(const std::string& block, const char* what, int64_t begin, int64_t end, int64_t count) {
  if (begin >= end)
    fail_input("the mask's " + block + " has an empty or reversed range of " + what + ": begin " +
               std::to_string(begin) + " must be less than end " + std::to_string(end));
  if (begin < 0 || end > count)
    fail_input("the mask's " + block + " has " + what + " out of range: there are rows 0 to " +
               std::to_string(count - 1) + ", so begin must be at least 0 and end at most " +
               std::to_string(count));
}

// Sweeps over the query rows and keeps the key ranges of the blocks that hold the current row.
class OverlapCheck {
 public:
  OverlapCheck(const std::vector<MaskBlock>& blocks, std::string place)
      : blocks_(blocks), place_(std::move(place)) {}

  void run() {
    std::vector<size_t> starts = sorted_by(&MaskBlock::query_begin);
    std::vector<size_t> ends = sorted_by(&MaskBlock::query_end);
    auto end = ends.begin();
    for (const size_t start : starts) {
      for (; end != ends.end() && blocks_[*end].query_end <= blocks_[start].query_begin; ++end)
        active_.erase(blocks_[*end].key_begin);
      insert(start);
    }
  }

 private:
  [[nodiscard]] std::vector<size_t> sorted_by(int64_t MaskBlock::*member) const {
    std::vector<size_t> order(blocks_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return blocks_[a].*member < blocks_[b].*member; });
    return order;
  }

  void insert(size_t index) {
    const MaskBlock& block = blocks_[index];
    const auto after = active_.lower_bound(block.key_begin);
    if (after != active_.end() && after->first < block.key_end) fail(index, after->second);
    if (after != active_.begin() && blocks_[std::prev(after)->second].key_end > block.key_begin)
      fail(index, std::prev(after)->second);
    active_.emplace(block.key_begin, index);
  }

  [[noreturn]] void fail(size_t a, size_t b) const {
    fail_input("the mask's blocks" + place_ + " must not overlap, but " +
               describe(std::min(a, b), blocks_[std::min(a, b)]) + " and " +
               describe(std::max(a, b), blocks_[std::max(a, b)]) + " do");
  }

  const std::vector<MaskBlock>& blocks_;
  std::string place_;
  std::map<int64_t, size_t> active_;  // first key → block
};

void check_blocks(const std::vector<MaskBlock>& blocks, const std::string& place, int64_t query_count,
                  int64_t key_count) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const MaskBlock& block = blocks[i];
    check_range(describe(i, block) + place, "queries", block.query_begin, block.query_end, query_count);
    check_range(describe(i, block) + place, "keys", block.key_begin, block.key_end, key_count);
  }
  OverlapCheck(blocks, place).run();
}

void check_offsets(const std::vector<int64_t>& indptr, const std::string& place, int64_t query_count,
                   int64_t index_count) {
  if (static_cast<int64_t>(indptr.size()) != query_count + 1)
    fail_input("the mask's indptr" + place + " must have one offset more than there are query rows, " +
               std::to_string(query_count + 1) + ", but has " + std::to_string(indptr.size()));
  if (indptr.front() != 0)
    fail_input("the mask's indptr" + place + " must start with 0, but starts with " +
               std::to_string(indptr.front()));
  for (size_t row = 0; row + 1 < indptr.size(); ++row)
    if (indptr[row] > indptr[row + 1])
      fail_input("the mask's indptr" + place + " must not decrease, but goes from " +
                 std::to_string(indptr[row]) + " to " + std::to_string(indptr[row + 1]) + " at row " +
                 std::to_string(row));
  if (indptr.back() != index_count)
    fail_input("the mask's indptr" + place + " must end with the number of indices, " +
               std::to_string(index_count) + ", but ends with " + std::to_string(indptr.back()));
}

void check_indices(const HeavyMask::Pattern& pattern, const std::string& place, int64_t key_count) {
  for (size_t row = 0; row + 1 < pattern.indptr.size(); ++row)
    for (int64_t i = pattern.indptr[row]; i < pattern.indptr[row + 1]; ++i) {
      const int32_t key = pattern.indices[static_cast<size_t>(i)];
      const std::string where =
          "the mask's index " + std::to_string(key) + " in row " + std::to_string(row) + place;
      if (key < 0 || key >= key_count)
        fail_input(where + " is out of range: there are keys 0 to " + std::to_string(key_count - 1));
      if (i > pattern.indptr[row] && pattern.indices[static_cast<size_t>(i) - 1] >= key)
        fail_input(where + " follows " + std::to_string(pattern.indices[static_cast<size_t>(i) - 1]) +
                   ": the indices of a row must increase and not repeat");
    }
}

}  // namespace

void HeavyMask::validate(int64_t heads, int64_t query_count, int64_t key_count) const {
  if (pattern_count() != 1 && pattern_count() != heads)
    fail_input("a mask must hold one pattern for all heads or one for each of the " + std::to_string(heads) +
               " (batch times heads), but holds " + std::to_string(pattern_count()));
  for (int64_t p = 0; p < pattern_count(); ++p) {
    const Pattern& pattern = patterns_[static_cast<size_t>(p)];
    const std::string place = in_head(p, pattern_count());
    if (pattern.indptr.empty() && pattern.indices.empty()) {
      check_blocks(pattern.blocks, place, query_count, key_count);
      continue;
    }
    if (!pattern.blocks.empty())
      fail_input("the mask" + place + " must be either blocks or compressed sparse rows, but holds both");
    check_offsets(pattern.indptr, place, query_count, static_cast<int64_t>(pattern.indices.size()));
    check_indices(pattern, place, key_count);
  }
}

}  // namespace hyperattn
