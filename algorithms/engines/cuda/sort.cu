#include "algorithms/engines/cuda/sort.h"

#include <cuda_runtime.h>

#include <algorithm>

#include <cub/device/device_radix_sort.cuh>

namespace hyperattn::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMostGridRows = 65535;

/// A thread a row that is asked for: pairs of a key and a value are sorted by both.
__global__ void rank_kernel(RankArguments a) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= a.count) return;
  const SortPart part = a.parts[a.asked[index].part];
  const uint32_t key = a.keys[part.begin + a.asked[index].row];
  const int32_t value = part.first_value + a.asked[index].row;
  int64_t low = part.begin;
  int64_t high = part.begin + part.count - 1;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const uint32_t seen = a.sorted_keys[middle];
    if (seen < key || (seen == key && a.sorted_values[middle] < value))
      low = middle + 1;
    else
      high = middle;
  }
  a.ranks[index] = static_cast<int32_t>(low - part.begin);
}

/// A thread a row that is asked for: its place is the number of those before it.
__global__ void __launch_bounds__(kThreads) asked_order_kernel(AskedOrderArguments a) {
  __shared__ int32_t others[kThreads];
  const AskedPart part = a.parts[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * kThreads; first < part.count;
       first += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int64_t own = first + thread;
    const int32_t rank = own < part.count ? a.ranks[part.begin + own] : 0;
    int64_t place = 0;
    for (int64_t begin = 0; begin < part.count; begin += kThreads) {
      const int count = static_cast<int>(min(part.count - begin, int64_t{kThreads}));
      __syncthreads();
      if (thread < count) others[thread] = a.ranks[part.begin + begin + thread];
      __syncthreads();
      for (int i = 0; i < count; ++i)
        place += others[i] < rank || (others[i] == rank && begin + i < own) ? 1 : 0;
    }
    if (own >= part.count) continue;
    a.sorted_ranks[part.begin + place] = rank;
    a.sorted_rows[part.begin + place] = part.first_value + a.asked[part.begin + own].row;
  }
}

}  // namespace

LaunchError sort_pairs(void* scratch, size_t& scratch_bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t count, int bits, void* stream) {
  return cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values, sorted_values,
                                         count, 0, bits, static_cast<cudaStream_t>(stream));
}

LaunchError launch_ranks(const RankArguments& arguments, void* stream) {
  if (arguments.count == 0) return cudaSuccess;
  rank_kernel<<<static_cast<unsigned>((arguments.count + kThreads - 1) / kThreads), kThreads, 0,
                static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError launch_asked_order(const AskedOrderArguments& arguments, void* stream) {
  if (arguments.part_count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(arguments.part_count),
                  static_cast<unsigned>(std::min((arguments.most + kThreads - 1) / kThreads, kMostGridRows)));
  asked_order_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
