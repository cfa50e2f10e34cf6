#include "algorithms/engines/cuda/sort.h"

#include <cuda_runtime.h>

#include <algorithm>

#include <cub/device/device_radix_sort.cuh>

namespace hyperattn::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMostGridRows = 65535;

/// A thread a row that is asked for: rows are sorted by number, and rows of one number by themselves.
__global__ void __launch_bounds__(kThreads) rank_kernel(const __grid_constant__ AskedArguments a) {
  const AskedPart asked = a.asked_parts[blockIdx.x];
  const SortPart part = a.parts[asked.part];
  for (int64_t own = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; own < asked.count;
       own += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int32_t row = a.asked[asked.begin + own];
    const uint32_t number = a.numbers.of(part.numbers + row);
    int64_t low = 0;
    int64_t high = part.count - 1;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const int32_t other = a.sorted[part.begin + middle] - part.first_value;
      const uint32_t seen = a.numbers.of(part.numbers + other);
      if (seen < number || (seen == number && other < row))
        low = middle + 1;
      else
        high = middle;
    }
    a.ranks[asked.begin + own] = static_cast<int32_t>(low);
  }
}

/// A thread a row that is asked for: its place is the number of those before it.
__global__ void __launch_bounds__(kThreads) asked_order_kernel(const __grid_constant__ AskedArguments a) {
  __shared__ int32_t others[kThreads];
  const AskedPart asked = a.asked_parts[blockIdx.x];
  const int32_t* ranks = a.ranks + asked.begin;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * kThreads; first < asked.count;
       first += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int64_t own = first + thread;
    const int32_t rank = own < asked.count ? ranks[own] : 0;
    int64_t place = asked.begin;
    for (int64_t begin = 0; begin < asked.count; begin += kThreads) {
      const int count = static_cast<int>(min(asked.count - begin, int64_t{kThreads}));
      __syncthreads();
      if (thread < count) others[thread] = ranks[begin + thread];
      __syncthreads();
      for (int i = 0; i < count; ++i)
        place += others[i] < rank || (others[i] == rank && begin + i < own) ? 1 : 0;
    }
    if (own >= asked.count) continue;
    a.sorted_ranks[place] = rank;
    a.sorted_rows[place] = a.parts[asked.part].first_value + a.asked[asked.begin + own];
  }
}

/// A block a part and stretch of its rows.
dim3 asked_grid(const AskedArguments& arguments) {
  return {static_cast<unsigned>(arguments.asked_part_count),
          static_cast<unsigned>(std::min((arguments.most + kThreads - 1) / kThreads, kMostGridRows))};
}

}  // namespace

LaunchError sort_pairs(void* scratch, size_t& scratch_bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t count, int bits, void* stream) {
  return cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values, sorted_values,
                                         count, 0, bits, static_cast<cudaStream_t>(stream));
}

LaunchError launch_ranks(const AskedArguments& arguments, void* stream) {
  if (arguments.asked_part_count == 0) return cudaSuccess;
  rank_kernel<<<asked_grid(arguments), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError launch_asked_order(const AskedArguments& arguments, void* stream) {
  if (arguments.asked_part_count == 0) return cudaSuccess;
  asked_order_kernel<<<asked_grid(arguments), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
