#include "algorithms/masks/bucket_blocks.h"

#include <algorithm>
#include <utility>

namespace hyperattn {
namespace {

// Rank at which each group starts, and the end.
std::vector<int64_t> group_starts(const std::vector<uint32_t>& groups, int64_t count) {
  std::vector<int64_t> starts(static_cast<size_t>(count) + 1, 0);
  for (const uint32_t group : groups) ++starts[group + 1];
  for (size_t g = 0; g < static_cast<size_t>(count); ++g) starts[g + 1] += starts[g];
  return starts;
}

SortedRows stable_order(const std::vector<uint32_t>& groups, std::vector<int64_t> next, int64_t first_row) {
  SortedRows sorted;
  sorted.order.resize(groups.size());
  sorted.ranks.resize(groups.size());
  for (size_t row = 0; row < groups.size(); ++row) {
    const int64_t rank = next[groups[row]]++;
    sorted.order[static_cast<size_t>(rank)] = static_cast<int32_t>(first_row + static_cast<int64_t>(row));
    sorted.ranks[row] = static_cast<int32_t>(rank);
  }
  return sorted;
}

}  // namespace

NodeMask blocks_by_rank(const BucketCodes& codes, const AttentionNode& node, int64_t block_size) {
  return sorted_mask(
      stable_order(codes.query, group_starts(codes.query, codes.bucket_count), node.query_begin),
      stable_order(codes.key, group_starts(codes.key, codes.bucket_count), node.key_begin),
      aligned_blocks(node.query_count(), node.key_count(), block_size));
}

NodeMask blocks_by_bucket(const BucketCodes& codes, const AttentionNode& node, int64_t block_size) {
  const std::vector<int64_t> starts = group_starts(codes.key, codes.bucket_count);
  const int64_t keys = node.key_count();
  std::vector<uint32_t> block_of_query(codes.query.size());
  for (size_t i = 0; i < block_of_query.size(); ++i) {
    const int64_t begin = starts[codes.query[i]];
    const int64_t last = std::max(starts[codes.query[i] + 1] - 1, begin);
    block_of_query[i] = static_cast<uint32_t>(std::min((begin + last) / 2, keys - 1) / block_size);
  }
  const int64_t blocks = (keys + block_size - 1) / block_size;
  const std::vector<int64_t> query_starts = group_starts(block_of_query, blocks);
  std::vector<RankBlock> ranges;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = query_starts[static_cast<size_t>(b)];
    const int64_t end = query_starts[static_cast<size_t>(b) + 1];
    if (begin < end) ranges.push_back({begin, end, b * block_size, std::min((b + 1) * block_size, keys)});
  }
  return sorted_mask(stable_order(block_of_query, query_starts, node.query_begin),
                     stable_order(codes.key, starts, node.key_begin), ranges);
}

}  // namespace hyperattn
