// Tiles of 64 rows by four warps: what the kernels share. A warp multiplies its 16 rows of one tile with all
// rows of another on the matrix units (mma.sync, sm_80 and later) and holds the product in registers, where
// lane 4·g + t has the elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1) of every 16 × 8 piece. A
// product in registers is multiplied on without a way through memory. fp32 is three products of halves with
// 11 bits each, which keeps all but the last bit of a float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "algorithms/engines/cuda/kernels.h"

namespace hyperattn::cuda {

constexpr int kThreads = 128;
constexpr int kWarpRows = 16;
/// Blocks that a multiprocessor should hold at once, so that some compute while others wait for memory.
template <class T>
constexpr int blocks_at_once(int columns) {
  return sizeof(T) == 2 && columns <= 64 ? 3 : 1;
}
constexpr float kLog2EulerDevice = 1.44269504088896340736F;

/// Rows of a tile lie apart by this many elements: no two rows that are read together share a bank.
template <class T>
__host__ __device__ constexpr int tile_stride(int width) {
  return width + (sizeof(T) == 2 ? 8 : 4);
}

__device__ __forceinline__ float minus_infinity() {
  return -__int_as_float(0x7f800000);
}

/// 2^x; of 16-bit weights the last bits and the smallest values do not count.
template <class T>
__device__ __forceinline__ float power_of_two(float x) {
  if constexpr (sizeof(T) == 2) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
  } else {
    return exp2f(x);
  }
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                         const __nv_bfloat16*) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                         const __half*) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// A float as the sum of two that the matrix units take whole.
__device__ __forceinline__ void split(float x, uint32_t& high, uint32_t& low) {
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(high) : "f"(x));
  const float rest = x - __uint_as_float(high);
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(low) : "f"(rest));
}

__device__ __forceinline__ uint32_t pack(float low, float high, const __nv_bfloat16*) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}
__device__ __forceinline__ uint32_t pack(float low, float high, const __half*) {
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

/// product(16 × N·8) = 16 rows from `a` · (N·8 rows of `b`)ᵀ, over `depth`.
template <class T, int N>
__device__ __forceinline__ void rows_times_rows(float (&product)[N][4], const T* a, const T* b, int stride,
                                                int depth) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) product[n][e] = 0;
  if constexpr (sizeof(T) == 2) {
    const int m = lane / 8;
    const int r = lane % 8;
    for (int k = 0; k < depth; k += 16) {
      uint32_t left[4];
      load_matrices(left, a + (m % 2 * 8 + r) * stride + k + m / 2 * 8);
#pragma unroll
      for (int n = 0; n < N; n += 2) {
        uint32_t right[4];
        load_matrices(right, b + (n * 8 + m / 2 * 8 + r) * stride + k + m % 2 * 8);
        multiply(product[n], left, right[0], right[1], a);
        multiply(product[n + 1], left, right[2], right[3], a);
      }
    }
  } else {
    const int g = lane / 4;
    const int t = lane % 4;
    for (int k = 0; k < depth; k += 8) {
      const float2 upper = *reinterpret_cast<const float2*>(a + g * stride + k + 2 * t);
      const float2 lower = *reinterpret_cast<const float2*>(a + (g + 8) * stride + k + 2 * t);
      uint32_t high[4];
      uint32_t low[4];
      split(upper.x, high[0], low[0]);
      split(lower.x, high[1], low[1]);
      split(upper.y, high[2], low[2]);
      split(lower.y, high[3], low[3]);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const float2 column = *reinterpret_cast<const float2*>(b + (n * 8 + g) * stride + k + 2 * t);
        uint32_t b_high[2];
        uint32_t b_low[2];
        split(column.x, b_high[0], b_low[0]);
        split(column.y, b_high[1], b_low[1]);
        // The units cut off what they add up; steps are added outside, rounded.
        float step[4] = {0, 0, 0, 0};
        multiply_tf32(step, low, b_high[0], b_high[1]);
        multiply_tf32(step, high, b_low[0], b_low[1]);
        multiply_tf32(step, high, b_high[0], b_high[1]);
#pragma unroll
        for (int e = 0; e < 4; ++e) product[n][e] += step[e];
      }
    }
  }
}

/// sum(16 × columns) += weights(16 × N·8, in registers) · N·8 rows of `b`. Columns are a multiple of 16, and
/// at most C·8.
template <class T, int N, int C>
__device__ __forceinline__ void add_weights_times_rows(float (&sum)[C][4], const float (&weights)[N][4],
                                                       const T* b, int stride, int columns) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(T) == 2) {
    const int m = lane / 8;
    const int r = lane % 8;
    uint32_t left[N / 2][4];
#pragma unroll
    for (int j = 0; j < N / 2; ++j) {
      left[j][0] = pack(weights[2 * j][0], weights[2 * j][1], b);
      left[j][1] = pack(weights[2 * j][2], weights[2 * j][3], b);
      left[j][2] = pack(weights[2 * j + 1][0], weights[2 * j + 1][1], b);
      left[j][3] = pack(weights[2 * j + 1][2], weights[2 * j + 1][3], b);
    }
#pragma unroll
    for (int c = 0; c < C; c += 2) {
      if (c * 8 >= columns) break;
      float first[4] = {0, 0, 0, 0};
      float second[4] = {0, 0, 0, 0};
#pragma unroll
      for (int j = 0; j < N / 2; ++j) {
        uint32_t right[4];
        load_matrices_transposed(right, b + (j * 16 + m % 2 * 8 + r) * stride + c * 8 + m / 2 * 8);
        multiply(first, left[j], right[0], right[1], b);
        multiply(second, left[j], right[2], right[3], b);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sum[c][e] += first[e];
        sum[c + 1][e] += second[e];
      }
    }
  } else {
    const int g = lane / 4;
    const int t = lane % 4;
#pragma unroll
    for (int j = 0; j < N; ++j) {  // the order of the depth is free, so (2t, 2t + 1) stand for (t, t + 4)
      uint32_t high[4];
      uint32_t low[4];
      split(weights[j][0], high[0], low[0]);
      split(weights[j][2], high[1], low[1]);
      split(weights[j][1], high[2], low[2]);
      split(weights[j][3], high[3], low[3]);
      const T* row = b + (j * 8 + 2 * t) * stride + g;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (c * 8 >= columns) break;
        uint32_t b_high[2];
        uint32_t b_low[2];
        split(row[c * 8], b_high[0], b_low[0]);
        split(row[stride + c * 8], b_high[1], b_low[1]);
        float step[4] = {0, 0, 0, 0};
        multiply_tf32(step, low, b_high[0], b_high[1]);
        multiply_tf32(step, high, b_low[0], b_low[1]);
        multiply_tf32(step, high, b_high[0], b_high[1]);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[c][e] += step[e];
      }
    }
  }
}

/// Copies rows of `width` elements from `source` (rows of `source_stride`) to a tile; row number −1: zeros.
template <class T>
__device__ __forceinline__ void gather_rows(T* tile, int tile_row, const T* source, int64_t source_stride,
                                            const int64_t* rows, int count, int width) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  const int vectors = width / kVector;
  for (int i = static_cast<int>(threadIdx.x); i < count * vectors; i += kThreads) {
    const int row = i / vectors;
    const int column = i % vectors * kVector;
    uint4 value = {0, 0, 0, 0};
    if (rows[row] >= 0) value = *reinterpret_cast<const uint4*>(source + rows[row] * source_stride + column);
    *reinterpret_cast<uint4*>(tile + row * tile_row + column) = value;
  }
}

__device__ __forceinline__ int64_t row_of(const FlatOrder& order, int64_t index, const int32_t* integers) {
  if (order.remote != nullptr) return order.remote[index];
  return order.rows == kNone ? order.first + index : integers[order.rows + index];
}

/// Whether `rank` is among the increasing integers [begin, end).
__device__ __forceinline__ bool is_among(const int32_t* integers, int64_t begin, int64_t end, int32_t rank) {
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    const int32_t seen = integers[middle];
    if (seen == rank) return true;
    if (seen < rank)
      begin = middle + 1;
    else
      end = middle;
  }
  return false;
}

/// What a list says of one rank.
struct RankWeights {
  float bias = 0;  ///< log-weight in base 2; −∞: not there
  float numerator = 1;
  float denominator = 1;
  float factor = 0;
};

__device__ __forceinline__ RankWeights weights_of(const FlatList& list, int64_t rank, const float* numbers) {
  RankWeights weights;
  weights.bias = list.log_weight == kNone ? list.uniform : numbers[list.log_weight + rank];
  if (list.numerator != kNone) {
    weights.numerator = numbers[list.numerator + rank];
    weights.denominator = numbers[list.denominator + rank];
  }
  if (list.factor_rank != kNone) weights.factor = numbers[list.factor_rank + rank];
  return weights;
}

/// log₂(1 + a·r).
__device__ __forceinline__ float factor_bias(float row, float rank) {
  return log1pf(row * rank) * kLog2EulerDevice;
}

__device__ __forceinline__ int64_t first_visible(const FlatPass& pass, int64_t position) {
  if (pass.window <= 0) return 0;
  const int64_t first = position + pass.diagonal - pass.window + 1;
  return first > 0 ? first : 0;
}
__device__ __forceinline__ int64_t last_visible(const FlatPass& pass, int64_t position) {
  return position + pass.diagonal + 1;
}

__device__ __forceinline__ void store_element(void* rows, Precision type, int64_t element, float value) {
  if (type == Precision::bf16)
    static_cast<__nv_bfloat16*>(rows)[element] = __float2bfloat16_rn(value);
  else if (type == Precision::fp16)
    static_cast<__half*>(rows)[element] = __float2half_rn(value);
  else
    static_cast<float*>(rows)[element] = value;
}

/// Two elements side by side, the first at an even place.
__device__ __forceinline__ void store_pair(void* rows, Precision type, int64_t element, float first,
                                           float second) {
  if (type == Precision::bf16)
    *reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(rows) + element) =
        __floats2bfloat162_rn(first, second);
  else if (type == Precision::fp16)
    *reinterpret_cast<__half2*>(static_cast<__half*>(rows) + element) = __floats2half2_rn(first, second);
  else
    *reinterpret_cast<float2*>(static_cast<float*>(rows) + element) = {first, second};
}

constexpr double kGuardShareDevice = 1e-6;  // kGuardShare of plan.h
constexpr double kLn2 = 0.69314718055994530942;

/// What becomes of a row with these sums.
struct RowEnd {
  bool guarded;  ///< its signed denominator is noise
  bool empty;    ///< it gives 0
};
__device__ __forceinline__ RowEnd row_end(double sum, double absolute) {
  const bool guarded = absolute > 0 && sum <= kGuardShareDevice * absolute;
  return {guarded, guarded || sum <= 0};
}

/// What a row that is not empty has beside its output. In fp32 there is no slow arithmetic of the card's few
/// units for double precision; lse then has an error of some 2^-24 of |maximum| + |log₂ sum|.
struct RowValues {
  float lse;
  float inverse;
};
__device__ __forceinline__ RowValues row_values(float maximum, double sum) {
  return {static_cast<float>((static_cast<double>(maximum) + log2(sum)) * kLn2), 1 / static_cast<float>(sum)};
}
__device__ __forceinline__ RowValues row_values_in_fp32(float maximum, float sum) {
  return {(maximum + log2f(sum)) * static_cast<float>(kLn2), 1 / sum};
}

/// lse, the sums that the backward pass reads, and counts. `infinite`: the output has a NaN or infinity.
__device__ __forceinline__ void store_row_end(const FinishArguments& finish, int64_t row, float maximum,
                                              double sum, const RowEnd& end, const RowValues& values,
                                              bool infinite) {
  finish.lse[row] = end.empty ? minus_infinity() : values.lse;
  finish.state.maximum[row] = end.empty ? 0 : maximum;
  finish.state.sum[row] = end.empty ? 0 : sum;
  finish.inverse[row] = end.empty ? 0.0F : values.inverse;
  if (end.guarded) atomicAdd(&finish.counts->guarded, 1ULL);
  if (!end.empty && (infinite || !(fabsf(values.lse) < -minus_infinity())))
    atomicAdd(&finish.counts->infinite, 1ULL);
}

/// Whether one of the four threads that share a row says so; all threads of a warp ask together.
__device__ __forceinline__ bool any_of_four(bool own) {
  const unsigned votes = __ballot_sync(0xffffffffU, own);
  return (votes >> (threadIdx.x % 32 / 4 * 4) & 15U) != 0;
}

}  // namespace hyperattn::cuda
