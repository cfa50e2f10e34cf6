// Hashing of rows (sort.h).
#include "algorithms/engines/cuda/block_owner.cuh"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/engines/cuda/tile.cuh"

namespace hyperattn::cuda {
namespace {

constexpr int kRowsOfThread = 2;
constexpr int kRowsAtOnce = kRowsOfThread * kThreads;
constexpr int kStagedBytes = 128;  // of a row at a time
constexpr int kVectors = kStagedBytes / 16;

__device__ uint32_t bucket_rank_of(uint32_t code, bool gray) {
  if (!gray) return code ^ (code >> 1);
  for (uint32_t shift = 1; shift < 32; shift *= 2) code ^= code >> shift;
  return code;
}

template <class T>
struct alignas(16) Vector {
  T of[16 / sizeof(T)];
};

/// A thread two rows; rows and directions go through shared memory, a stretch of columns at a time.
template <class T>
__global__ void __launch_bounds__(kThreads) hash_kernel(const __grid_constant__ HashArguments a) {
  constexpr int kColumns = kStagedBytes / static_cast<int>(sizeof(T));
  constexpr int kOfVector = 16 / static_cast<int>(sizeof(T));
  __shared__ uint4 rows[kRowsAtOnce][kVectors + 1];  // one more, so that threads read from different banks
  __shared__ float directions[kColumns][kDirections];
  const HashStretch stretch = a.stretches[block_owner(a.stretches, a.stretch_count, a.block_count)];
  const T* source = static_cast<const T*>(stretch.of_keys ? a.key : a.query) + stretch.first_row * a.stride;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t begin = static_cast<int64_t>(static_cast<int>(blockIdx.x) - stretch.first_block) * kHashRows;
  const int64_t end = min(begin + kHashRows, stretch.count);
  const int tasks = stretch.last_task - stretch.first_task;
  const int turns = static_cast<int>((end - begin + kRowsAtOnce - 1) / kRowsAtOnce) * tasks;
  for (int turn = 0; turn < turns; ++turn) {
    const int64_t first = begin + turn / tasks * kRowsAtOnce;
    const HashTask task = a.tasks[stretch.first_task + turn % tasks];
    uint32_t codes[kRowsOfThread] = {};
    for (int group = 0; group < a.bits; group += kDirections) {
      const float* own = a.directions + task.directions + static_cast<int64_t>(group) * a.width;
      float sums[kRowsOfThread][kDirections] = {};
      for (int column = 0; column < a.width; column += kColumns) {
        __syncthreads();
        for (int i = thread; i < kRowsAtOnce * kVectors; i += kThreads) {
          const int row = i / kVectors;
          const int c = column + i % kVectors * kOfVector;
          uint4 value = {0, 0, 0, 0};
          if (first + row < stretch.count && c < a.stride)
            value = *reinterpret_cast<const uint4*>(source + (first + row) * a.stride + c);
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
      if (row < stretch.count) a.numbers.set(task.numbers + row, bucket_rank_of(codes[r], a.gray != 0));
    }
  }
}

/// Rows of this many columns in 16 bits are hashed by the matrix units, which give sums in another order:
/// only signs that this may change are computed once more as the host does.
constexpr int kMatrixColumns = 64;
constexpr int kSteps = kMatrixColumns / 16;  // of a product
constexpr int kParts = 2;                    // a direction is the sum of so many halves, but for 2^-18 of it
constexpr int kTiles = 2;                    // of 16 rows, which a warp hashes at once
constexpr int kRowsOfWarp = 16 * kTiles;
/// A sum of 64 products in any order, and of 8 by the matrix units, is off by less than 2^-15 of Σ|x·d|,
/// which is at most |x|·|d|: 64 additions and products on the host are 2^-17, what is left of directions is
/// 2^-18, and a product of the units that cuts each of its 17 terms 2^-23 below the largest is 2^-15.9 for
/// all eight.
constexpr float kUnsure = 0x1p-15F;
constexpr float kLeastSquare = 0x1p-80F;  // so that none that counts has underflowed

/// Lane 4·g + t holds of the direction g those columns that it holds of rows: 8·t to 8·t + 7 and 32 more on.
__device__ int column_of(int step, int pair) {
  return static_cast<int>(threadIdx.x) % 4 * 8 + step % 2 * 4 + step / 2 * 32 + pair * 2;
}

/// What a lane holds of eight directions.
union LaneDirections {
  uint32_t part[kParts][kSteps][2];
  uint4 words[4];
};
static_assert(sizeof(LaneDirections) == 4 * sizeof(uint4));

/// A warp eight directions.
template <class T>
__global__ void __launch_bounds__(kThreads)
    split_kernel(const float* directions, int64_t groups, SplitDirections* split) {
  const int64_t group = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (group >= groups) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  LaneDirections own;
  float square = 0;
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const float* source =
          directions + (group * kMatrixColumns + column_of(step, pair)) * kDirections + lane / 4;
      float left[2] = {source[0], source[kDirections]};
      square += left[0] * left[0] + left[1] * left[1];
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        const T rounded[2] = {static_cast<T>(left[0]), static_cast<T>(left[1])};
        own.part[i][step][pair] =
            pack(static_cast<float>(rounded[0]), static_cast<float>(rounded[1]), rounded);
        left[0] -= static_cast<float>(rounded[0]);
        left[1] -= static_cast<float>(rounded[1]);
      }
    }
  square += __shfl_xor_sync(0xffffffffU, square, 1);
  square += __shfl_xor_sync(0xffffffffU, square, 2);
  if (lane % 4 == 0) split[group].length[lane / 4] = sqrtf(square);
#pragma unroll
  for (int i = 0; i < 4; ++i) *reinterpret_cast<uint4*>(split[group].words[i][lane]) = own.words[i];
}

/// The lane's columns of the rows g and g + 8 of 16.
struct LoadedRows {
  uint4 piece[2][2];

  __device__ void load(const void* rows, int first, int count) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = first + lane / 4 + 8 * h;
        piece[h][i] = {0, 0, 0, 0};
        if (row < count) piece[h][i] = static_cast<const uint4*>(rows)[row * 8 + i * 4 + lane % 4];
      }
  }
  __device__ uint32_t pair(int h, int step, int number) const {
    const uint4& own = piece[h][step / 2];
    return step % 2 == 0 ? (number == 0 ? own.x : own.y) : (number == 0 ? own.z : own.w);
  }
  /// The square of the length of the whole row h.
  template <class T>
  __device__ float square(int h) const {
    float sum = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int number = 0; number < 2; ++number) {
        const uint32_t both = pair(h, step, number);
        T x[2];
        memcpy(x, &both, sizeof(x));
        const auto first = static_cast<float>(x[0]);
        const auto second = static_cast<float>(x[1]);
        sum += first * first + second * second;
      }
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    return sum + __shfl_xor_sync(0xffffffffU, sum, 2);
  }
};

/// As the host sums.
template <class T>
__device__ bool is_positive(const T* row, const float* direction) {
  float sum = 0;
#pragma unroll 16
  for (int c = 0; c < kMatrixColumns; ++c)
    sum = __fadd_rn(sum, __fmul_rn(static_cast<float>(row[c]), direction[c * kDirections]));
  return sum > 0;
}

/// Rows of a stretch from `first` on, which a warp hashes by one function after the other.
template <class T>
class HashingWarp {
 public:
  __device__ HashingWarp(const HashArguments& a, const HashStretch& stretch, int64_t first)
      : a_(a),
        source_(static_cast<const T*>(stretch.of_keys ? a.key : a.query) +
                (stretch.first_row + first) * kMatrixColumns),
        first_(first),
        count_(static_cast<int>(min(stretch.count - first, int64_t{kRowsOfWarp}))) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) rows_[i].load(source_, 16 * i, count_);
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float square = rows_[i].template square<T>(h);
        unsure_[i][h] = square > kLeastSquare ? kUnsure * sqrtf(square) : INFINITY;
      }
  }

  __device__ void hash(const HashTask& task) {
    uint32_t codes[kTiles][2] = {};
    for (int group = 0; group < a_.bits; group += kDirections)
      add_bits(task.directions / (kMatrixColumns * kDirections) + group / kDirections, group, codes);
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint32_t code = codes[i][h];
        code |= __shfl_xor_sync(0xffffffffU, code, 1);
        code |= __shfl_xor_sync(0xffffffffU, code, 2);
        if (pair_of_lane() == h && row(i, h) < count_)
          a_.numbers.set(task.numbers + first_ + row(i, h), bucket_rank_of(code, a_.gray != 0));
      }
  }

 private:
  static __device__ int pair_of_lane() {
    return static_cast<int>(threadIdx.x) % 4;
  }
  [[nodiscard]] static __device__ int row(int i, int h) {
    return 16 * i + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * h;
  }

  /// Those of the group `number` of all, whose first direction is the function's direction `first_bit`.
  __device__ void add_bits(int64_t number, int first_bit, uint32_t (&codes)[kTiles][2]) const {
    const SplitDirections& split = a_.split[number];
    LaneDirections own;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      own.words[i] = *reinterpret_cast<const uint4*>(split.words[i][threadIdx.x % 32]);
    const float2 length = *reinterpret_cast<const float2*>(split.length + 2 * pair_of_lane());
    uint32_t positive = 0;  // a bit for each sum of the lane: by tile, row and direction
    uint32_t unsure = 0;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      float sums[4] = {};
#pragma unroll
      for (int p = kParts - 1; p >= 0; --p)
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const uint32_t left[4] = {rows_[i].pair(0, step, 0), rows_[i].pair(1, step, 0),
                                    rows_[i].pair(0, step, 1), rows_[i].pair(1, step, 1)};
          multiply(sums, left, own.part[p][step][0], own.part[p][step][1], static_cast<const T*>(nullptr));
        }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (sums[k] > 0) positive |= 1U << (4 * i + k);
        const bool is_sure = fabsf(sums[k]) > unsure_[i][k / 2] * (k % 2 == 0 ? length.x : length.y);
        if (!is_sure) unsure |= 1U << (4 * i + k);
      }
    }
    const int left = a_.bits - first_bit - 2 * pair_of_lane();  // directions that there are
    const uint32_t used = left >= 2 ? 0xffffffffU : left == 1 ? 0x55555555U : 0;
    unsure &= used;
    for (; unsure != 0; unsure &= unsure - 1) {
      const int k = __ffs(static_cast<int>(unsure)) - 1;
      const int own_row = row(k / 4, k / 2 % 2);
      if (own_row >= count_) continue;
      const float* direction =
          a_.directions + number * (kMatrixColumns * kDirections) + 2 * pair_of_lane() + k % 2;
      const bool is = is_positive(source_ + own_row * kMatrixColumns, direction);
      positive = (positive & ~(1U << k)) | static_cast<uint32_t>(is) << k;
    }
    positive &= used;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        codes[i][h] |= (positive >> (4 * i + 2 * h) & 3) << (first_bit + 2 * pair_of_lane());
  }

  const HashArguments& a_;
  const T* source_;
  int64_t first_;
  int count_;  ///< rows that there are
  LoadedRows rows_[kTiles];
  float unsure_[kTiles][2];
};

template <class T>
__global__ void __launch_bounds__(kThreads) matrix_hash_kernel(const __grid_constant__ HashArguments a) {
  const HashStretch stretch = a.stretches[block_owner(a.stretches, a.stretch_count, a.block_count)];
  const int64_t begin = static_cast<int64_t>(static_cast<int>(blockIdx.x) - stretch.first_block) * kHashRows;
  const int64_t end = min(begin + kHashRows, stretch.count);
  for (int64_t first = begin + static_cast<int>(threadIdx.x) / 32 * kRowsOfWarp; first < end;
       first += kThreads / 32 * kRowsOfWarp) {
    HashingWarp<T> warp(a, stretch, first);
    for (int number = stretch.first_task; number < stretch.last_task; ++number) warp.hash(a.tasks[number]);
  }
}

template <class T>
LaunchError hash_rows(const HashArguments& arguments, void* stream) {
  if (arguments.block_count == 0) return cudaSuccess;
  auto* const queue = static_cast<cudaStream_t>(stream);
  void (*kernel)(HashArguments) = hash_kernel<T>;
  if constexpr (sizeof(T) == 2)
    if (arguments.split != nullptr) {
      const int64_t groups = arguments.direction_groups;
      split_kernel<T><<<static_cast<unsigned>((groups * 32 + kThreads - 1) / kThreads), kThreads, 0, queue>>>(
          arguments.directions, groups, arguments.split);
      kernel = matrix_hash_kernel<T>;
    }
  kernel<<<static_cast<unsigned>(arguments.block_count), kThreads, 0, queue>>>(arguments);
  return cudaGetLastError();
}

}  // namespace

bool hashes_by_matrix_units(Precision precision, int64_t width) {
  return precision != Precision::fp32 && width == kMatrixColumns;
}

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
