#include "algorithms/engines/cuda/sort.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cub/device/device_radix_sort.cuh>

namespace hyperattn::cuda {
namespace {

constexpr int kDirections = 8;  // of a group
constexpr int kThreads = 128;
constexpr int kRowsOfThread = kHashRows / kThreads;
constexpr int kStagedBytes = 128;  // of a row at a time
constexpr int kVectors = kStagedBytes / 16;

__device__ uint32_t bucket_rank_of(uint32_t code, bool gray) {
  if (!gray) return code ^ (code >> 1);
  for (uint32_t shift = 1; shift < 32; shift *= 2) code ^= code >> shift;
  return code;
}

/// The part that a block hashes rows of.
__device__ int part_of(const SortPart* parts, int count, int block) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (parts[middle].first_block <= block)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

template <class T>
struct alignas(16) Vector {
  T of[16 / sizeof(T)];
};

/// A thread two rows; rows and directions go through shared memory, a stretch of columns at a time.
template <class T>
__global__ void __launch_bounds__(kThreads) hash_kernel(HashArguments a) {
  constexpr int kColumns = kStagedBytes / static_cast<int>(sizeof(T));
  constexpr int kOfVector = 16 / static_cast<int>(sizeof(T));
  __shared__ uint4 rows[kHashRows][kVectors + 1];  // one more, so that threads read from different banks
  __shared__ float directions[kColumns][kDirections];
  const int number = part_of(a.parts, a.part_count, static_cast<int>(blockIdx.x));
  const SortPart part = a.parts[number];
  const int64_t first = static_cast<int64_t>(static_cast<int>(blockIdx.x) - part.first_block) * kHashRows;
  const T* source =
      static_cast<const T*>(part.of_keys ? a.key : a.query) + (part.first_row + first) * a.stride;
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t codes[kRowsOfThread] = {};
  for (int group = 0; group < a.bits; group += kDirections) {
    const float* own = a.directions + part.directions + static_cast<int64_t>(group) * a.width;
    float sums[kRowsOfThread][kDirections] = {};
    for (int column = 0; column < a.width; column += kColumns) {
      __syncthreads();
      for (int i = thread; i < kHashRows * kVectors; i += kThreads) {
        const int row = i / kVectors;
        const int c = column + i % kVectors * kOfVector;
        uint4 value = {0, 0, 0, 0};
        if (first + row < part.count && c < a.stride)
          value = *reinterpret_cast<const uint4*>(source + static_cast<int64_t>(row) * a.stride + c);
        rows[row][i % kVectors] = value;
      }
      for (int i = thread; i < kColumns * kDirections; i += kThreads) {
        const int c = column + i / kDirections;
        directions[i / kDirections][i % kDirections] = c < a.width ? own[column * kDirections + i] : 0;
      }
      __syncthreads();
      for (int v = 0; v < kVectors; ++v) {
        Vector<T> x[kRowsOfThread];
#pragma unroll
        for (int r = 0; r < kRowsOfThread; ++r)
          x[r] = *reinterpret_cast<const Vector<T>*>(&rows[r * kThreads + thread][v]);
#pragma unroll
        for (int e = 0; e < kOfVector; ++e)
#pragma unroll
          for (int t = 0; t < kDirections; ++t)
#pragma unroll
            for (int r = 0; r < kRowsOfThread; ++r)  // not fused
              sums[r][t] = __fadd_rn(
                  sums[r][t], __fmul_rn(static_cast<float>(x[r].of[e]), directions[v * kOfVector + e][t]));
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r)
#pragma unroll
      for (int t = 0; t < kDirections; ++t)
        if (sums[r][t] > 0) codes[r] |= 1U << (group + t);
  }
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
    const int64_t row = first + r * kThreads + thread;
    if (row >= part.count) continue;
    a.keys[part.begin + row] =
        static_cast<uint32_t>(number) << a.bits | bucket_rank_of(codes[r], a.gray != 0);
    a.values[part.begin + row] = part.first_value + static_cast<int32_t>(row);
  }
}

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
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kThreads;
  if (first >= part.count) return;
  const int thread = static_cast<int>(threadIdx.x);
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
  if (own >= part.count) return;
  a.sorted_ranks[part.begin + place] = rank;
  a.sorted_rows[part.begin + place] = part.first_value + a.asked[part.begin + own].row;
}

template <class T>
LaunchError hash_rows(const HashArguments& arguments, void* stream) {
  if (arguments.block_count == 0) return cudaSuccess;
  hash_kernel<T>
      <<<static_cast<unsigned>(arguments.block_count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
          arguments);
  return cudaGetLastError();
}

}  // namespace

LaunchError launch_hash(Precision precision, const HashArguments& arguments, void* stream) {
  switch (precision) {
    case Precision::bf16:
      return hash_rows<__nv_bfloat16>(arguments, stream);
    case Precision::fp16:
      return hash_rows<__half>(arguments, stream);
    default:
      return hash_rows<float>(arguments, stream);
  }
}

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
                  static_cast<unsigned>((arguments.most + kThreads - 1) / kThreads));
  asked_order_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
