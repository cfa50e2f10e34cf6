// Hashing of rows (sort.h).
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/engines/cuda/tile.cuh"

namespace hyperattn::cuda {
namespace {

constexpr int kDirections = 8;  // of a group
constexpr int kRowsOfThread = kHashRows / kThreads;
constexpr int kStagedBytes = 128;  // of a row at a time
constexpr int kVectors = kStagedBytes / 16;

__device__ uint32_t bucket_rank_of(uint32_t code, bool gray) {
  if (!gray) return code ^ (code >> 1);
  for (uint32_t shift = 1; shift < 32; shift *= 2) code ^= code >> shift;
  return code;
}

/// The part that a block hashes rows of: most often where it is if all have as many rows.
__device__ int part_of(const HashArguments& a) {
  const auto block = static_cast<int>(blockIdx.x);
  const auto guess = static_cast<int>(static_cast<int64_t>(block) * a.part_count / a.block_count);
  const int next = guess + 1 < a.part_count ? a.parts[guess + 1].first_block : a.block_count;
  if (a.parts[guess].first_block <= block && block < next) return guess;
  int low = 0;
  int high = a.part_count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (a.parts[middle].first_block <= block)
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
  const int number = part_of(a);
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

/// Rows of this many columns in 16 bits are hashed by the matrix units, which give sums in another order:
/// only signs that this may change are computed once more as the host does.
constexpr int kMatrixColumns = 64;
constexpr int kSteps = kMatrixColumns / 16;  // of a product
constexpr int kParts = 3;                    // a float is the sum of so many halves
constexpr int kRowsOfWarp = kHashRows / (kThreads / 32);
/// A sum of 64 products in any order, and of 12 by the matrix units, is off by at most 2^-14 of the sum of
/// sizes: 64 additions and products on the host are 2^-17, and a product of the units that cuts each of its
/// 17 terms 2^-23 below the largest is 2^-15.3 for all twelve.
constexpr float kUnsure = 0x1p-14F;

/// What lane 4·g + t holds of 8 directions: of the direction g, those columns that it holds of rows.
template <class T>
struct DirectionParts {
  uint32_t part[kParts][kSteps][2];
  float size;  // of the direction, Σ|·|

  /// Columns 8·t to 8·t + 7 and 32 more on.
  static __device__ int column(int step, int pair) {
    return static_cast<int>(threadIdx.x) % 4 * 8 + step % 2 * 4 + step / 2 * 32 + pair * 2;
  }

  __device__ void load(const float* directions) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    size = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const float* own = directions + column(step, pair) * kDirections + g;
        float left[2] = {own[0], own[kDirections]};
        size += fabsf(left[0]) + fabsf(left[1]);
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
          const T rounded[2] = {static_cast<T>(left[0]), static_cast<T>(left[1])};
          part[i][step][pair] = pack(static_cast<float>(rounded[0]), static_cast<float>(rounded[1]), rounded);
          left[0] -= static_cast<float>(rounded[0]);
          left[1] -= static_cast<float>(rounded[1]);
        }
      }
    size += __shfl_xor_sync(0xffffffffU, size, 1);
    size += __shfl_xor_sync(0xffffffffU, size, 2);
  }
};

/// The lane's columns of the rows g and g + 8 of 16.
struct HashedRows {
  uint4 piece[2][2];

  __device__ void load(const void* rows, int64_t first, int64_t count) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int64_t row = first + lane / 4 + 8 * h;
        piece[h][i] = {0, 0, 0, 0};
        if (row < count) piece[h][i] = static_cast<const uint4*>(rows)[row * 8 + i * 4 + lane % 4];
      }
  }
  __device__ uint32_t pair(int h, int step, int number) const {
    const uint4& own = piece[h][step / 2];
    return step % 2 == 0 ? (number == 0 ? own.x : own.y) : (number == 0 ? own.z : own.w);
  }
  /// The largest |x| of the whole row h.
  template <class T>
  __device__ float largest(int h) const {
    float most = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int number = 0; number < 2; ++number) {
        const uint32_t both = pair(h, step, number);
        T x[2];
        memcpy(x, &both, sizeof(x));
        most = fmaxf(most, fmaxf(fabsf(static_cast<float>(x[0])), fabsf(static_cast<float>(x[1]))));
      }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
    return fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
  }
};

/// As the host sums.
template <class T>
__device__ __noinline__ bool is_positive(const T* row, const float* direction) {
  float sum = 0;
  for (int c = 0; c < kMatrixColumns; ++c)
    sum = __fadd_rn(sum, __fmul_rn(static_cast<float>(row[c]), direction[c * kDirections]));
  return sum > 0;
}

template <class T>
__global__ void __launch_bounds__(kThreads) matrix_hash_kernel(HashArguments a) {
  const int number = part_of(a);
  const SortPart part = a.parts[number];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int t = lane % 4;
  const T* source = static_cast<const T*>(part.of_keys ? a.key : a.query) + part.first_row * kMatrixColumns;
  const int64_t first = static_cast<int64_t>(static_cast<int>(blockIdx.x) - part.first_block) * kHashRows +
                        static_cast<int>(threadIdx.x) / 32 * kRowsOfWarp;
  uint32_t codes[kRowsOfWarp / 16][2] = {};
  for (int group = 0; group < a.bits; group += kDirections) {
    const float* directions = a.directions + part.directions + static_cast<int64_t>(group) * kMatrixColumns;
    HashedRows rows[kRowsOfWarp / 16];
#pragma unroll
    for (int i = 0; i < kRowsOfWarp / 16; ++i) rows[i].load(source, first + 16 * i, part.count);
    DirectionParts<T> own;
    own.load(directions);
    const float size[2] = {__shfl_sync(0xffffffffU, own.size, 8 * t),
                           __shfl_sync(0xffffffffU, own.size, 8 * t + 4)};
#pragma unroll
    for (int i = 0; i < kRowsOfWarp / 16; ++i) {
      float sums[4] = {};
#pragma unroll
      for (int p = kParts - 1; p >= 0; --p)
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const uint32_t left[4] = {rows[i].pair(0, step, 0), rows[i].pair(1, step, 0),
                                    rows[i].pair(0, step, 1), rows[i].pair(1, step, 1)};
          multiply(sums, left, own.part[p][step][0], own.part[p][step][1], static_cast<const T*>(nullptr));
        }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float unsure = kUnsure * rows[i].template largest<T>(h);
        uint32_t code = 0;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float sum = sums[2 * h + e];
          bool positive = sum > 0;
          if (!(fabsf(sum) > unsure * size[e]) && group + 2 * t + e < a.bits) {
            const int64_t row = first + 16 * i + lane / 4 + 8 * h;
            if (row < part.count)
              positive = is_positive(source + row * kMatrixColumns, directions + 2 * t + e);
          }
          if (positive) code |= 1U << (group + 2 * t + e);
        }
        codes[i][h] |= code;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kRowsOfWarp / 16; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint32_t code = codes[i][h];
      code |= __shfl_xor_sync(0xffffffffU, code, 1);
      code |= __shfl_xor_sync(0xffffffffU, code, 2);
      const int64_t row = first + 16 * i + lane / 4 + 8 * h;
      if (t != h || row >= part.count) continue;
      a.keys[part.begin + row] = static_cast<uint32_t>(number) << a.bits | bucket_rank_of(code, a.gray != 0);
      a.values[part.begin + row] = part.first_value + static_cast<int32_t>(row);
    }
}

template <class T>
LaunchError hash_rows(const HashArguments& arguments, void* stream) {
  if (arguments.block_count == 0) return cudaSuccess;
  void (*kernel)(HashArguments) = hash_kernel<T>;
  if constexpr (sizeof(T) == 2)
    if (arguments.width == kMatrixColumns) kernel = matrix_hash_kernel<T>;
  kernel<<<static_cast<unsigned>(arguments.block_count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
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

}  // namespace hyperattn::cuda
