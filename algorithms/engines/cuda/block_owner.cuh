// Which of many things a block of threads works for, where each has a run of blocks.
#pragma once

#include <cstdint>

namespace hyperattn::cuda {

/// The last of `count` things, in increasing order of `first_block`, that begins at or before this block:
/// most often where it is if all have as many blocks.
template <class Thing>
__device__ int block_owner(const Thing* things, int count, int block_count) {
  const auto block = static_cast<int>(blockIdx.x);
  const auto guess = static_cast<int>(static_cast<int64_t>(block) * count / block_count);
  const int next = guess + 1 < count ? things[guess + 1].first_block : block_count;
  if (things[guess].first_block <= block && block < next) return guess;
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (things[middle].first_block <= block)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace hyperattn::cuda
