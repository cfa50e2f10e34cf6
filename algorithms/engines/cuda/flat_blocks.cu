#include "algorithms/engines/cuda/flat_blocks.h"

#include <cuda_runtime.h>

namespace hyperattn::cuda {
namespace {

constexpr int kThreads = 128;

/// A thread a tile.
__global__ void __launch_bounds__(kThreads) blocks_kernel(BlockArguments a) {
  const FlatBlocks own = a.blocks[blockIdx.x];
  const int64_t number = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const bool there = number < own.block_count * own.block_tiles;
  auto excluded = static_cast<unsigned long long>(there ? write_block_tile(own, a.target, number) : 0);
  for (int step = 16; step > 0; step /= 2) excluded += __shfl_xor_sync(0xffffffffU, excluded, step);
  if (threadIdx.x % 32 == 0 && excluded > 0 && a.excluded != nullptr) atomicAdd(a.excluded, excluded);
}

}  // namespace

LaunchError launch_blocks(const BlockArguments& arguments, void* stream) {
  if (arguments.count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(arguments.count),
                  static_cast<unsigned>((arguments.most_tiles + kThreads - 1) / kThreads));
  blocks_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
