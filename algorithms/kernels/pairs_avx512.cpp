// Products of pairs of bfloat16 by AVX512-BF16, and the rounding to them.
#include "algorithms/kernels/pairs.h"
#include "algorithms/kernels/tile.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)  // g++ 12 warns of its own intrinsics' undefined operands
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <cpuid.h>
#include <hwy/base.h>
#include <immintrin.h>

// No function of the standard library is called in here: an instance of a template that is compiled with
// these instructions must not be linked elsewhere.
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
namespace hyperattn {
namespace {

constexpr int kLanes = 16;
constexpr int kRows = 6;
constexpr int kVectors = 4;
constexpr int kPanel = kLanes * kVectors;

inline __m512bh load_words(const uint32_t* words) {
  return (__m512bh)_mm512_loadu_si512(words);
}

/// C block (Rows × Vectors·16) of one panel.
template <int Rows, int Vectors>
inline void multiply_block(const PairMultiplyArguments& m, const uint32_t* a, const uint32_t* b,
                           int64_t width, float* c, const float* bias) {
  constexpr int kSums = Rows * Vectors;
  __m512 sum[kSums];
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t) sum[t] = _mm512_setzero_ps();
  const int64_t a_row = m.a_row;
  for (int64_t k = 0; k < m.depth; ++k) {
    __m512bh column[Vectors];
    HWY_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) column[v] = load_words(b + v * kLanes);
    HWY_UNROLL(32)
    for (int t = 0; t < kSums; ++t)
      sum[t] =
          _mm512_dpbf16_ps(sum[t], (__m512bh)_mm512_set1_epi32(static_cast<int>(a[t / Vectors * a_row + k])),
                           column[t % Vectors]);
    b += width;
  }
  const int64_t c_stride = m.c_stride;
  if (bias == nullptr) {
    HWY_UNROLL(32)
    for (int t = 0; t < kSums; ++t) {
      float* target = c + t / Vectors * c_stride + t % Vectors * kLanes;
      _mm512_storeu_ps(target, _mm512_add_ps(_mm512_loadu_ps(target), sum[t]));
    }
    return;
  }
  const __m512 factor = _mm512_set1_ps(m.factor);
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t)
    _mm512_storeu_ps(c + t / Vectors * c_stride + t % Vectors * kLanes,
                     _mm512_fmadd_ps(sum[t], factor, _mm512_loadu_ps(bias + t % Vectors * kLanes)));
}

#include "algorithms/kernels/multiply_panels.inc"

void multiply(const PairMultiplyArguments& m) {
  multiply_panels(m);
}

/// The first `count` of 16 lanes.
inline __mmask16 first_lanes(int64_t count) {
  return count >= kLanes ? 0xFFFF : count <= 0 ? 0 : static_cast<__mmask16>((1U << count) - 1);
}

float round_row(const float* row, int64_t count, uint32_t* words, int64_t word_count) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t p = 0; p < word_count; p += kLanes) {
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(count - 2 * p), row + 2 * p);
    const __m512 high = _mm512_maskz_loadu_ps(first_lanes(count - 2 * p - kLanes), row + 2 * p + kLanes);
    squares = _mm512_fmadd_ps(low, low, _mm512_fmadd_ps(high, high, squares));
    const auto pairs = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    _mm512_mask_storeu_epi32(words + p, first_lanes(word_count - p), pairs);
  }
  return _mm512_reduce_add_ps(squares);
}

#include "algorithms/kernels/exp2_avx512.inc"

void weigh(const SoftmaxArguments& s) {
  for (int64_t i = 0; i < s.rows; ++i) {
    float* row = s.scores + i * s.score_stride;
    const __m512 shift = _mm512_set1_ps(s.maximum[i]);
    __m512 first = _mm512_setzero_ps();
    __m512 second = _mm512_setzero_ps();
    int64_t j = 0;
    for (; j + 2 * kLanes <= s.columns; j += 2 * kLanes) {
      const __m512 low = exp2_avx512(_mm512_sub_ps(_mm512_loadu_ps(row + j), shift));
      const __m512 high = exp2_avx512(_mm512_sub_ps(_mm512_loadu_ps(row + j + kLanes), shift));
      first = _mm512_add_ps(first, low);
      second = _mm512_add_ps(second, high);
      _mm512_storeu_si512(row + j / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    if (j < s.columns) {
      const __m512 low = exp2_avx512(_mm512_sub_ps(_mm512_loadu_ps(row + j), shift));
      first = _mm512_add_ps(first, low);
      _mm512_storeu_si512(row + j / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), low));
    }
    s.sum[i] += _mm512_reduce_add_ps(_mm512_add_ps(first, second));
  }
}

void round_weights(float* weights, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = weights + i * stride;
    for (int64_t j = 0; j < columns; j += 2 * kLanes) {
      const __m512 low = _mm512_loadu_ps(row + j);
      const __m512 high = j + kLanes < columns ? _mm512_loadu_ps(row + j + kLanes) : _mm512_setzero_ps();
      _mm512_storeu_si512(row + j / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
}

/// 16 rounded numbers of a row, from column c of the panel on, in the lower halves of words.
inline __m512i rounded_columns(const PairRowsArguments& rows, int64_t row, int64_t c) {
  if (row >= rows.count) return _mm512_setzero_si512();
  c += rows.first_column;
  const __mmask16 held = first_lanes(rows.columns - c);
  __m512 x = _mm512_maskz_loadu_ps(held, rows.source[row] + c);
  if (rows.factor != nullptr) x = _mm512_maskz_mul_ps(held, x, _mm512_set1_ps(rows.factor[row]));
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
}

/// Rows that are gathered lie scattered.
inline void prefetch_row(const PairRowsArguments& rows, int64_t row) {
  if (row >= rows.count) return;
  for (int64_t c = 0; c < rows.width; c += kLanes)
    __builtin_prefetch(rows.source[row] + rows.first_column + c);
}

void pack_rows(const PairRowsArguments& rows) {
  constexpr int64_t kAhead = 16;
  for (int64_t p = 0; p < rows.depth; ++p) {
    prefetch_row(rows, 2 * p + kAhead);
    prefetch_row(rows, 2 * p + 1 + kAhead);
    for (int64_t c = 0; c < rows.width; c += kLanes) {
      const __m512i first = rounded_columns(rows, 2 * p, c);
      const __m512i second = rounded_columns(rows, 2 * p + 1, c);
      _mm512_storeu_si512(rows.panel + p * rows.width + c,
                          _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
    }
  }
}

void nothing() {}

constexpr PairKernels kKernels = {
    "avx512_bf16", kPanel, 24, 1, 1, nothing, nothing, multiply, round_row, weigh, round_weights, pack_rows};

}  // namespace
}  // namespace hyperattn
HWY_POP_ATTRIBUTES

namespace hyperattn {

const PairKernels* avx512_pair_kernels() {
  constexpr unsigned kSubleaf = 1;
  constexpr unsigned kBfloat16 = 1U << 5;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool known = __get_cpuid_count(7, kSubleaf, &eax, &ebx, &ecx, &edx) != 0;
  return known && (eax & kBfloat16) != 0 ? &kKernels : nullptr;
}

}  // namespace hyperattn

#else

namespace hyperattn {

const PairKernels* avx512_pair_kernels() {
  return nullptr;
}

}  // namespace hyperattn
#endif
