#include "algorithms/engines/cuda/sort.h"

#include <cuda_runtime.h>

#include <cub/device/device_radix_sort.cuh>

namespace hyperattn::cuda {
namespace {

constexpr int kBlock = 256;
constexpr int kDirections = 8;  // of a group

__device__ uint32_t bucket_rank_of(uint32_t code, bool gray) {
  if (!gray) return code ^ (code >> 1);
  for (uint32_t shift = 1; shift < 32; shift *= 2) code ^= code >> shift;
  return code;
}

/// The last part that begins at or before `row`.
__device__ int part_of(const SortPart* parts, int count, int64_t row) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (parts[middle].begin <= row)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

/// A thread a row.
__global__ void hash_kernel(HashArguments a) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= a.rows) return;
  const int number = part_of(a.parts, a.part_count, index);
  const SortPart part = a.parts[number];
  const int64_t own = index - part.begin;
  const float* row = (part.of_keys ? a.key : a.query) + (part.first_row + own) * a.stride;
  uint32_t code = 0;
  for (int first = 0; first < a.bits; first += kDirections) {
    const float* directions = a.directions + part.directions + static_cast<int64_t>(first) * a.width;
    float sums[kDirections] = {};
    for (int c = 0; c < a.width; ++c) {
      const float x = row[c];
#pragma unroll
      for (int t = 0; t < kDirections; ++t)  // not fused
        sums[t] = __fadd_rn(sums[t], __fmul_rn(x, directions[c * kDirections + t]));
    }
#pragma unroll
    for (int t = 0; t < kDirections; ++t)
      if (sums[t] > 0) code |= 1U << (first + t);
  }
  a.keys[index] = static_cast<uint32_t>(number) << a.bits | bucket_rank_of(code, a.gray != 0);
  a.values[index] = static_cast<int32_t>(own);
}

}  // namespace

LaunchError launch_hash(const HashArguments& arguments, void* stream) {
  if (arguments.rows == 0) return cudaSuccess;
  hash_kernel<<<static_cast<unsigned>((arguments.rows + kBlock - 1) / kBlock), kBlock, 0,
                static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError sort_pairs(void* scratch, size_t& scratch_bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t count, int bits, void* stream) {
  return cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values, sorted_values,
                                         count, 0, bits, static_cast<cudaStream_t>(stream));
}

}  // namespace hyperattn::cuda
