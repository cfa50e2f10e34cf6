// Blocks from bucket numbers, however these were made: keys are sorted by bucket and cut every b ranks;
// queries are cut at the same shares of their own ranks, or each goes to the block of its own bucket.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/masks/node_mask.h"

namespace hyperattn {

/// Bucket of every query and key of a node, each below `bucket_count`.
struct BucketCodes {
  std::vector<uint32_t> query;
  std::vector<uint32_t> key;
  int64_t bucket_count = 1;
};

/// The mask of aligned blocks of both sides' ranks (`aligned_blocks`).
[[nodiscard]] NodeMask blocks_by_rank(const BucketCodes& codes, const AttentionNode& node,
                                      int64_t block_size);

/// Key blocks as there; a query's block is the one that holds the middle rank of its own bucket's keys (of
/// an empty bucket: the rank where its keys would stand). So a row's keys depend on nothing but this row and
/// the keys, which makes causal attention strictly autoregressive. Within a block, queries keep their order.
[[nodiscard]] NodeMask blocks_by_bucket(const BucketCodes& codes, const AttentionNode& node,
                                        int64_t block_size);

}  // namespace hyperattn
