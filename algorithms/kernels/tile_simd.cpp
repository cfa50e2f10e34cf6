// Inner kernels, written once with Highway and compiled for every instruction set that the compiler knows.
// What it trades: a register block of kRows × kVectors accumulators is as large as the register file allows,
// so that each fused multiply-add needs less than half a load.

// AVX3_DL adds nothing to fp32 kernels, SSSE3 next to nothing over the portable level.
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSSE3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "algorithms/kernels/tile_simd.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "algorithms/kernels/table_of_level_internal.h"
#include "algorithms/kernels/tile.h"
#include "algorithms/plan.h"

HWY_BEFORE_NAMESPACE();
namespace hyperattn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using Vec = hn::Vec<D>;

constexpr int kLanes = HWY_LANES(float);
#if HWY_TARGET <= HWY_AVX3  // 32 registers: 24 accumulators, 4 columns, broadcasts
constexpr int kRows = 6;
constexpr int kVectors = 4;
#elif HWY_TARGET == HWY_AVX2    // 16 registers: 12 accumulators, 2 columns, broadcasts
constexpr int kRows = 6;
constexpr int kVectors = 2;
#elif HWY_TARGET == HWY_SCALAR  // one lane a vector: left to the compiler's own vectoriser
constexpr int kRows = 2;
constexpr int kVectors = 8;
#else
constexpr int kRows = 4;
constexpr int kVectors = 2;
#endif
constexpr int kPanel = kLanes * kVectors;

// C block (Rows × Vectors·lanes) of one panel. `width` is the panel's row length in B.
template <int Rows, int Vectors>
HWY_INLINE void multiply_block(const MultiplyArguments& m, const float* HWY_RESTRICT a,
                               const float* HWY_RESTRICT b, int64_t width, float* HWY_RESTRICT c,
                               const float* HWY_RESTRICT bias) {
  const D d;
  Vec sum[Rows][Vectors];
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) {
      if (m.mode == Accumulate::add)
        sum[i][v] = hn::LoadU(d, c + i * m.c_stride + v * kLanes);
      else
        sum[i][v] = m.mode == Accumulate::bias ? hn::LoadU(d, bias + v * kLanes) : hn::Zero(d);
    }
  const int64_t a_row = m.a_row;
  const int64_t a_step = m.a_step;
  for (int64_t k = 0; k < m.depth; ++k) {
    Vec column[Vectors];
    for (int v = 0; v < Vectors; ++v) column[v] = hn::LoadU(d, b + v * kLanes);
    for (int i = 0; i < Rows; ++i) {
      const Vec broadcast = hn::Set(d, a[i * a_row]);
      for (int v = 0; v < Vectors; ++v) sum[i][v] = hn::MulAdd(broadcast, column[v], sum[i][v]);
    }
    a += a_step;
    b += width;
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) hn::StoreU(sum[i][v], d, c + i * m.c_stride + v * kLanes);
}

#include "algorithms/kernels/multiply_panels.inc"

void multiply(const MultiplyArguments& m) {
  multiply_panels(m);
}

// 2^x. Below −126 the result fades to 0, which it is exactly for −∞; from 128 on it is +∞. Both forms
// evaluate a degree-5 polynomial of 2^f whose coefficients minimise the largest relative error (below 1e-7
// before rounding) with the first held at 1, so that 2^0 = 1 exactly.
#if HWY_TARGET <= HWY_AVX3
#include "algorithms/kernels/exp2_avx512.inc"
HWY_INLINE Vec exp2_vector(Vec x) {
  return Vec{exp2_avx512(x.raw)};
}
#else
// Elsewhere x is rounded by adding a large constant, f in [−1/2, 1/2], and the integer is added to the
// exponent bits.
HWY_INLINE Vec exp2_vector(Vec x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const Vec rounder = hn::Set(d, 12582912.0F);  // 1.5 * 2^23
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
  // The bound comes first: x86 returns the second operand when one is NaN, and a NaN must survive.
  x = hn::Min(hn::Set(d, 128.0F), hn::Max(hn::Set(d, -127.0F), x));
#else
  x = hn::IfThenElse(hn::IsNaN(x), x, hn::Min(hn::Max(x, hn::Set(d, -127.0F)), hn::Set(d, 128.0F)));
#endif
  const Vec shifted = hn::Add(x, rounder);
  const Vec f = hn::Sub(x, hn::Sub(shifted, rounder));
  Vec p = hn::Set(d, 0.00132647273F);
  p = hn::MulAdd(p, f, hn::Set(d, 0.00967151299F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555073358F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240222424F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693147004F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}
#endif

HWY_INLINE float row_maximum(const float* scores, int64_t columns) {
  const D d;
  Vec best = hn::LoadU(d, scores);
  for (int64_t j = kLanes; j < columns; j += kLanes) best = hn::Max(best, hn::LoadU(d, scores + j));
  return hn::GetLane(hn::MaxOfLanes(d, best));
}

// Turns one row of scores into weights relative to `maximum`; returns their sum.
HWY_INLINE float exponentiate(float* scores, int64_t columns, float maximum) {
  const D d;
  const Vec shift = hn::Set(d, maximum);
  Vec total = hn::Zero(d);
  for (int64_t j = 0; j < columns; j += kLanes) {
    const Vec weight = exp2_vector(hn::Sub(hn::LoadU(d, scores + j), shift));
    hn::StoreU(weight, d, scores + j);
    total = hn::Add(total, weight);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

HWY_INLINE void scale_row(float* row, int64_t columns, float factor) {
  const D d;
  const Vec f = hn::Set(d, factor);
  for (int64_t j = 0; j < columns; j += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, row + j), f), d, row + j);
}

// Raises the reference of row i where its scores need it, and rescales what was summed under the old one.
HWY_INLINE void raise_reference(const SoftmaxArguments& s, int64_t i, double* absolute) {
  const D d;
  if (s.fixed || s.bound[i] <= s.maximum[i] + kHeadroom) return;
  const float maximum = row_maximum(s.scores + i * s.score_stride, s.columns);
  if (!(maximum > s.maximum[i])) return;
  const float factor = hn::GetLane(exp2_vector(hn::Set(d, s.maximum[i] - maximum)));
  s.maximum[i] = maximum;
  s.sum[i] *= factor;
  if (absolute != nullptr) absolute[i] *= factor;
  if (s.accumulator != nullptr)
    scale_row(s.accumulator + i * s.accumulator_stride, s.accumulator_columns, factor);
}

void raise_references(const SoftmaxArguments& s) {
  for (int64_t i = 0; i < s.rows; ++i) raise_reference(s, i, nullptr);
}

void softmax(const SoftmaxArguments& s) {
  for (int64_t i = 0; i < s.rows; ++i) {
    raise_reference(s, i, nullptr);
    s.sum[i] += exponentiate(s.scores + i * s.score_stride, s.columns, s.maximum[i]);
  }
}

// The factor 1 + a·r of a vector of columns, from column j on.
HWY_INLINE Vec factor_vector(const WeightArguments& w, int64_t i, int64_t j) {
  const D d;
  return hn::MulAdd(hn::Set(d, w.row_factor[i]), hn::LoadU(d, w.rank_factor + j), hn::Set(d, 1.0F));
}

void weighted_softmax(const SoftmaxArguments& s, const WeightArguments& w) {
  const D d;
  for (int64_t i = 0; i < s.rows; ++i) {
    raise_reference(s, i, w.absolute);
    float* scores = s.scores + i * s.score_stride;
    const Vec shift = hn::Set(d, s.maximum[i]);
    Vec total = hn::Zero(d);
    Vec absolute = hn::Zero(d);
    for (int64_t j = 0; j < s.columns; j += kLanes) {
      Vec weight = exp2_vector(hn::Sub(hn::LoadU(d, scores + j), shift));
      if (w.row_factor != nullptr) weight = hn::Mul(weight, factor_vector(w, i, j));
      hn::StoreU(weight, d, scores + j);
      if (w.denominator != nullptr) weight = hn::Mul(weight, hn::LoadU(d, w.denominator + j));
      total = hn::Add(total, weight);
      absolute = hn::Add(absolute, hn::Abs(weight));
    }
    s.sum[i] += hn::GetLane(hn::SumOfLanes(d, total));
    if (w.absolute != nullptr) w.absolute[i] += hn::GetLane(hn::SumOfLanes(d, absolute));
  }
}

// Rows that attend to a segment go by batches whose scores stay in registers; two chains of sums hide the
// latency of a batch of few rows.
#if HWY_TARGET <= HWY_AVX3
constexpr int kSegmentRows = 8;
constexpr int kSegmentChains = 2;
#elif HWY_TARGET == HWY_AVX2
constexpr int kSegmentRows = 4;
constexpr int kSegmentChains = 1;
#elif HWY_TARGET == HWY_SCALAR
constexpr int kSegmentRows = 1;
constexpr int kSegmentChains = 1;
#else
constexpr int kSegmentRows = 2;
constexpr int kSegmentChains = 1;
#endif
constexpr int kSegmentLanes = 16;
constexpr int kSegmentValueRows = kSegmentRows < 4 ? kSegmentRows : 4;

// A batch of rows of the tile: their places and the keys that each leaves out, those beyond the segment too.
struct SegmentBatch {
  int64_t count = 0;
  int64_t place[kSegmentRows] = {};
  uint32_t skip[kSegmentRows] = {};
  alignas(64) float weights[kSegmentRows * kSegmentLanes] = {};
};

HWY_INLINE void load_batch(const SegmentArguments& s, int64_t first, int64_t count, SegmentBatch& batch) {
  batch.count = count;
  for (int64_t i = 0; i < count; ++i) {
    const RowEntry& entry = s.entries[first + i];
    batch.place[i] = entry.position - s.first_position;
    batch.skip[i] = entry.skip | (0xFFFFU << s.keys & 0xFFFFU);
  }
}

// The rows of a batch lie scattered: asking for them a batch early hides their latency.
HWY_INLINE void prefetch_batch(const SegmentArguments& s, int64_t first, int64_t count) {
  constexpr int64_t kLine = 16;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t place = s.entries[i].position - s.first_position;
    for (int64_t k = 0; k < s.depth; k += kLine) __builtin_prefetch(s.queries + place * s.depth + k);
    for (int64_t c = 0; c < s.value_columns; c += kLine)
      __builtin_prefetch(s.accumulator + place * s.value_columns + c, 1);
  }
}

// Scores of a batch with a segment of `Columns` packed columns, bias first. Even and odd dimensions are
// chains of their own where there are two. (Loops over registers are flat: g++ unrolls nested ones too late
// to keep their arrays out of memory.)
template <class Tag, int Columns, int Rows>
void batch_scores(const SegmentArguments& s, SegmentBatch& batch) {
  const Tag d;
  using V = hn::Vec<Tag>;
  constexpr int kVectorLanes = static_cast<int>(hn::MaxLanes(Tag()));
  constexpr int kWidth = Columns / kVectorLanes;
  constexpr int kSums = Rows * kWidth;
  const float* query[Rows];
  HWY_UNROLL(32)
  for (int i = 0; i < Rows; ++i) query[i] = s.queries + batch.place[i] * s.depth;
  const float* bias = s.bias;
  V sum[kSums];
  V odd[kSums];
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t) {
    sum[t] = hn::LoadU(d, bias + t % kWidth * kVectorLanes);
    odd[t] = hn::Zero(d);
  }
  const float* key = s.key_columns;
  const int64_t depth = s.depth;
  int64_t k = 0;
  for (; k + 2 <= depth; k += 2, key += 2 * Columns) {
    HWY_UNROLL(32)
    for (int t = 0; t < kSums; ++t)
      sum[t] =
          hn::MulAdd(hn::Set(d, query[t / kWidth][k]), hn::LoadU(d, key + t % kWidth * kVectorLanes), sum[t]);
    V* second = kSegmentChains == 2 ? odd : sum;
    HWY_UNROLL(32)
    for (int t = 0; t < kSums; ++t)
      second[t] = hn::MulAdd(hn::Set(d, query[t / kWidth][k + 1]),
                             hn::LoadU(d, key + Columns + t % kWidth * kVectorLanes), second[t]);
  }
  if (k < depth) HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t)
    sum[t] =
        hn::MulAdd(hn::Set(d, query[t / kWidth][k]), hn::LoadU(d, key + t % kWidth * kVectorLanes), sum[t]);
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t)
    hn::StoreU(kSegmentChains == 2 ? hn::Add(sum[t], odd[t]) : sum[t], d,
               batch.weights + t / kWidth * kSegmentLanes + t % kWidth * kVectorLanes);
}

// Picks the instance for the batch's number of rows.
template <class Tag, int Columns, int Rows>
HWY_INLINE void batch_scores_of(const SegmentArguments& s, SegmentBatch& batch) {
  if constexpr (Rows > 0) {
    if (batch.count == Rows)
      batch_scores<Tag, Columns, Rows>(s, batch);
    else
      batch_scores_of<Tag, Columns, Rows - 1>(s, batch);
  }
}

// Makes the largest of a row's scores its reference, and rescales what was summed under the old one.
HWY_NOINLINE void raise_segment_reference(const SegmentArguments& s, const Vec* scores, int vectors,
                                          int64_t place, double* absolute) {
  const D d;
  Vec best = scores[0];
  for (int v = 1; v < vectors; ++v) best = hn::Max(best, scores[v]);
  const float maximum = hn::GetLane(hn::MaxOfLanes(d, best));
  const float factor = hn::GetLane(exp2_vector(hn::Set(d, s.maximum[place] - maximum)));
  s.maximum[place] = maximum;
  s.sum[place] *= factor;
  if (absolute != nullptr) absolute[place] *= factor;
  scale_row(s.accumulator + place * s.value_columns, s.value_columns, factor);
}

HWY_INLINE Vec capped_scores(const SegmentArguments& s, Vec score, const float* bias, int64_t place) {
  const D d;
  const Vec limit = hn::Add(hn::Set(d, s.cap[place]), hn::LoadU(d, bias));
  const auto above = hn::Gt(score, limit);
  *s.capped += static_cast<int64_t>(hn::CountTrue(d, above));
  return hn::IfThenElse(above, limit, score);
}

// A vector of a row's scores, from column j on; what a half vector lacks is left out by the row's skip.
template <class Tag>
HWY_INLINE Vec load_scores([[maybe_unused]] Tag tag, const float* scores) {
#if HWY_TARGET <= HWY_AVX3  // the only level with vectors wider than half a segment
  if constexpr (hn::MaxLanes(Tag()) < kLanes) return hn::ZeroExtendVector(D(), hn::LoadU(tag, scores));
#endif
  return hn::LoadU(D(), scores);
}

// What weights of segments may have besides their score. A kind has an instance of its own, since the
// questions would cost as much as the answers.
enum class SegmentKind {
  plain,   // nothing
  factor,  // a factor alone
  any,     // cap, factor, signs
};

// Scores of a batch become weights, which are summed.
template <class Tag, int Columns, SegmentKind Kind>
HWY_INLINE void segment_weights(const SegmentArguments& s, const WeightArguments& w, SegmentBatch& batch) {
  const D d;
  constexpr int kUsed = Columns < kLanes ? 1 : Columns / kLanes;
  constexpr bool kAny = Kind == SegmentKind::any;
  for (int64_t i = 0; i < batch.count; ++i) {
    const int64_t place = batch.place[i];
    float* scores = batch.weights + i * kSegmentLanes;
    const Vec threshold = hn::Set(d, s.maximum[place] + kHeadroom);
    Vec score[kUsed];
    bool exceeds = false;
    HWY_UNROLL(16)
    for (int v = 0; v < kUsed; ++v) {
      const uint64_t skip = batch.skip[i] >> (v * kLanes);
      const auto skipped = hn::LoadMaskBits(d, reinterpret_cast<const uint8_t*>(&skip));
      score[v] = hn::IfThenElse(skipped, hn::Set(d, -std::numeric_limits<float>::infinity()),
                                load_scores(Tag(), scores + v * kLanes));
      if (kAny && s.cap != nullptr) score[v] = capped_scores(s, score[v], s.bias + v * kLanes, place);
      exceeds |= !hn::AllFalse(d, hn::Gt(score[v], threshold));
    }
    if (exceeds && !s.fixed) raise_segment_reference(s, score, kUsed, place, w.absolute);
    const Vec shift = hn::Set(d, s.maximum[place]);
    Vec total = hn::Zero(d);
    Vec absolute = hn::Zero(d);
    HWY_UNROLL(16)
    for (int v = 0; v < kUsed; ++v) {
      Vec weight = exp2_vector(hn::Sub(score[v], shift));
      if (Kind == SegmentKind::factor || (kAny && w.row_factor != nullptr))
        weight = hn::Mul(weight, factor_vector(w, place, v * kLanes));
      hn::StoreU(weight, d, scores + v * kLanes);
      if (kAny && w.denominator != nullptr)
        weight = hn::Mul(weight, hn::LoadU(d, w.denominator + v * kLanes));
      total = hn::Add(total, weight);
      if (kAny) absolute = hn::Add(absolute, hn::Abs(weight));
    }
    s.sum[place] += hn::GetLane(hn::SumOfLanes(d, total));
    if (!kAny || w.absolute == nullptr) continue;
    w.absolute[place] += hn::GetLane(hn::SumOfLanes(d, absolute));
    if (w.absolute[place] == 0) s.maximum[place] = kNoScore;  // all was left out
  }
}

// Adds weight · value to `Rows` rows of the accumulator, from the batch's row `first` on, in `Vectors`
// vectors of columns from `column` on.
template <int Rows, int Vectors>
void segment_values(const SegmentArguments& s, const SegmentBatch& batch, int64_t first, int64_t column) {
  const D d;
  constexpr int kSums = Rows * Vectors;
  const int64_t stride = s.value_columns;
  float* target[Rows];
  HWY_UNROLL(32)
  for (int i = 0; i < Rows; ++i) target[i] = s.accumulator + batch.place[first + i] * stride + column;
  Vec sum[kSums];
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t) sum[t] = hn::LoadU(d, target[t / Vectors] + t % Vectors * kLanes);
  const float* weight = batch.weights + first * kSegmentLanes;
  const float* value = s.values + column;
  for (const float* end = weight + s.keys; weight < end; ++weight, value += stride) HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t)
    sum[t] = hn::MulAdd(hn::Set(d, weight[t / Vectors * kSegmentLanes]),
                        hn::LoadU(d, value + t % Vectors * kLanes), sum[t]);
  HWY_UNROLL(32)
  for (int t = 0; t < kSums; ++t) hn::StoreU(sum[t], d, target[t / Vectors] + t % Vectors * kLanes);
}

template <int Rows, int Vectors>
HWY_INLINE void segment_values_of_rows(const SegmentArguments& s, const SegmentBatch& batch, int64_t first,
                                       int64_t count, int64_t column) {
  if constexpr (Rows > 0) {
    if (count == Rows)
      segment_values<Rows, Vectors>(s, batch, first, column);
    else
      segment_values_of_rows<Rows - 1, Vectors>(s, batch, first, count, column);
  }
}

template <int Vectors>
HWY_INLINE void segment_values_of(const SegmentArguments& s, const SegmentBatch& batch, int64_t column) {
  if constexpr (Vectors > 0) {
    const int64_t left = s.value_columns - column;
    if (left < Vectors * kLanes) return segment_values_of<Vectors - 1>(s, batch, column);
    for (int64_t first = 0; first < batch.count; first += kSegmentValueRows)
      segment_values_of_rows<kSegmentValueRows, Vectors>(
          s, batch, first, std::min<int64_t>(kSegmentValueRows, batch.count - first), column);
  }
}

// How many of `left` rows the next batch takes: all of about the same size.
HWY_INLINE int64_t batch_rows(int64_t left) {
  if (left <= kSegmentRows) return left;
  return left < 2 * kSegmentRows ? (left + 1) / 2 : kSegmentRows;
}

template <class Tag, int Columns, SegmentKind Kind>
void attend_in_batches(const SegmentArguments& s, const WeightArguments& w) {
  SegmentBatch batch;
  int64_t count = batch_rows(s.rows);
  prefetch_batch(s, 0, count);
  for (int64_t first = 0; first < s.rows;) {
    load_batch(s, first, count, batch);
    first += count;
    count = batch_rows(s.rows - first);
    prefetch_batch(s, first, count);
    batch_scores_of<Tag, Columns, kSegmentRows>(s, batch);
    segment_weights<Tag, Columns, Kind>(s, w, batch);
    for (int64_t column = 0; column < s.value_columns; column += kPanel)
      segment_values_of<kVectors>(s, batch, column);
  }
}

template <SegmentKind Kind>
void attend_of_width(const SegmentArguments& s, const WeightArguments& w) {
  constexpr int kHalf = kSegmentLanes / 2;
  if (segment_width(s.keys) == kHalf)
    attend_in_batches<hn::CappedTag<float, kHalf>, kHalf, Kind>(s, w);
  else
    attend_in_batches<D, kSegmentLanes, Kind>(s, w);
}

void attend_segment(const SegmentArguments& s, const WeightArguments& w) {
  if (s.cap != nullptr || w.absolute != nullptr)
    attend_of_width<SegmentKind::any>(s, w);
  else if (w.row_factor != nullptr)
    attend_of_width<SegmentKind::factor>(s, w);
  else
    attend_of_width<SegmentKind::plain>(s, w);
}

template <class Tag, int Columns>
void scores_in_batches(const SegmentArguments& s, float* scores, int64_t stride) {
  SegmentBatch batch;
  for (int64_t first = 0; first < s.rows; first += batch.count) {
    batch.count = std::min<int64_t>(kSegmentRows, s.rows - first);
    for (int64_t i = 0; i < batch.count; ++i) batch.place[i] = first + i;
    batch_scores_of<Tag, Columns, kSegmentRows>(s, batch);
    for (int64_t i = 0; i < batch.count; ++i)
      std::copy_n(batch.weights + i * kSegmentLanes, Columns, scores + (first + i) * stride);
  }
}

void segment_scores(const SegmentArguments& s, float* scores, int64_t stride) {
  constexpr int kHalf = kSegmentLanes / 2;
  if (segment_width(s.keys) == kHalf)
    scores_in_batches<hn::CappedTag<float, kHalf>, kHalf>(s, scores, stride);
  else
    scores_in_batches<D, kSegmentLanes>(s, scores, stride);
}

void gradient(const GradientArguments& g) {
  const D d;
  for (int64_t i = 0; i < g.rows; ++i) {
    float* scores = g.scores + i * g.stride;
    const Vec maximum = hn::Set(d, g.maximum[i]);
    const Vec inverse = hn::Set(d, g.inverse[i]);
    if (g.gradients == nullptr) {
      for (int64_t j = 0; j < g.columns; j += kLanes)
        hn::StoreU(hn::Mul(inverse, exp2_vector(hn::Sub(hn::LoadU(d, scores + j), maximum))), d, scores + j);
      continue;
    }
    float* gradients = g.gradients + i * g.stride;
    const Vec delta = hn::Set(d, g.delta[i]);
    for (int64_t j = 0; j < g.columns; j += kLanes) {
      const Vec weight = hn::Mul(inverse, exp2_vector(hn::Sub(hn::LoadU(d, scores + j), maximum)));
      hn::StoreU(weight, d, scores + j);
      hn::StoreU(hn::Mul(weight, hn::Sub(hn::LoadU(d, gradients + j), delta)), d, gradients + j);
    }
  }
}

void weighted_gradient(const GradientArguments& g, const WeightArguments& w) {
  const D d;
  const Vec one = hn::Set(d, 1.0F);
  for (int64_t i = 0; i < g.rows; ++i) {
    float* scores = g.scores + i * g.stride;
    float* gradients = g.gradients == nullptr ? nullptr : g.gradients + i * g.stride;
    const Vec maximum = hn::Set(d, g.maximum[i]);
    const Vec inverse = hn::Set(d, g.inverse[i]);
    const Vec delta = hn::Set(d, gradients == nullptr ? 0.0F : g.delta[i]);
    for (int64_t j = 0; j < g.columns; j += kLanes) {
      Vec weight = hn::Mul(inverse, exp2_vector(hn::Sub(hn::LoadU(d, scores + j), maximum)));
      if (w.row_factor != nullptr) weight = hn::Mul(weight, factor_vector(w, i, j));
      const Vec numerator = w.numerator != nullptr ? hn::LoadU(d, w.numerator + j) : one;
      const Vec denominator = w.denominator != nullptr ? hn::LoadU(d, w.denominator + j) : one;
      hn::StoreU(hn::Mul(weight, numerator), d, scores + j);
      if (gradients == nullptr) continue;
      const Vec along = hn::Sub(hn::Mul(numerator, hn::LoadU(d, gradients + j)), hn::Mul(denominator, delta));
      hn::StoreU(hn::Mul(weight, along), d, gradients + j);
    }
  }
}

#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_AVX2
// Four columns of a panel at a time are four vectors; a 4 × 4 transpose within every 128-bit block puts the
// keys in order when block b of vector i holds key 4·b + i.
template <class Load>
HWY_INLINE void transpose_block(const Load& load, float* panel, int64_t width) {
  const D d;
  const Vec r0 = load(0);
  const Vec r1 = load(1);
  const Vec r2 = load(2);
  const Vec r3 = load(3);
  const Vec t0 = hn::InterleaveLower(d, r0, r2);
  const Vec t1 = hn::InterleaveLower(d, r1, r3);
  const Vec t2 = hn::InterleaveUpper(d, r0, r2);
  const Vec t3 = hn::InterleaveUpper(d, r1, r3);
  hn::StoreU(hn::InterleaveLower(d, t0, t1), d, panel);
  hn::StoreU(hn::InterleaveUpper(d, t0, t1), d, panel + width);
  hn::StoreU(hn::InterleaveLower(d, t2, t3), d, panel + 2 * width);
  hn::StoreU(hn::InterleaveUpper(d, t2, t3), d, panel + 3 * width);
}

#endif

HWY_INLINE float largest_square_norm(const float* panel, int64_t depth, int64_t width) {
  const D d;
  Vec largest = hn::Zero(d);
  for (int64_t j = 0; j < width; j += kLanes) {
    Vec sum = hn::Zero(d);
    for (int64_t k = 0; k < depth; ++k) {
      const Vec x = hn::LoadU(d, panel + k * width + j);
      sum = hn::MulAdd(x, x, sum);
    }
    largest = hn::Max(largest, sum);
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

float transpose(const TransposeArguments& t) {
  int64_t j = 0;
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_AVX2
  for (; j + kLanes <= t.rows; j += kLanes) {
    const float* const* source = t.source + j;
    int64_t k = 0;
    for (; k + 4 <= t.depth; k += 4) {
      const auto load = [source, k](int i) HWY_ATTR {
#if HWY_TARGET <= HWY_AVX3
        __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(source[i] + k));
        v = _mm512_insertf32x4(v, _mm_loadu_ps(source[i + 4] + k), 1);
        v = _mm512_insertf32x4(v, _mm_loadu_ps(source[i + 8] + k), 2);
        return Vec{_mm512_insertf32x4(v, _mm_loadu_ps(source[i + 12] + k), 3)};
#else
        const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(source[i] + k));
        return Vec{_mm256_insertf128_ps(v, _mm_loadu_ps(source[i + 4] + k), 1)};
#endif
      };
      transpose_block(load, t.panel + k * t.width + j, t.width);
    }
    for (; k < t.depth; ++k)
      for (int64_t i = 0; i < kLanes; ++i) t.panel[k * t.width + j + i] = source[i][k];
  }
#endif
  for (; j < t.width; ++j)
    for (int64_t k = 0; k < t.depth; ++k) t.panel[k * t.width + j] = j < t.rows ? t.source[j][k] : 0.0F;
  return t.wants_norm ? largest_square_norm(t.panel, t.depth, t.width) : 0;
}

void argmax(const float* rows_begin, int64_t rows, int64_t columns, uint32_t* places) {
  const D d;
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = rows_begin + i * columns;
    const Vec largest = hn::Set(d, row_maximum(row, columns));
    places[i] = 0;
    for (int64_t j = 0; j < columns; j += kLanes)
      if (const intptr_t lane = hn::FindFirstTrue(d, hn::Eq(hn::LoadU(d, row + j), largest)); lane >= 0) {
        places[i] = static_cast<uint32_t>(j + lane);
        break;
      }
  }
}

void exp2_all(const float* x, float* y, int64_t count) {
  const D d;
  for (int64_t i = 0; i < count; i += kLanes) hn::StoreU(exp2_vector(hn::LoadU(d, x + i)), d, y + i);
}

double fma_loop(int64_t iterations) {
  constexpr int kChains = 12;  // enough to hide the latency on two pipes, few enough to stay in registers
  const D d;
  Vec chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = hn::Set(d, 1.0F + static_cast<float>(i));
  Vec factor = hn::Set(d, 0.999F);
  Vec term = hn::Set(d, 0.001F);
  for (int64_t n = 0; n < iterations; ++n) {
    for (int i = 0; i < kChains; ++i) chain[i] = hn::MulAdd(chain[i], factor, term);
  }
  Vec total = chain[0];
  for (int i = 1; i < kChains; ++i) total = hn::Add(total, chain[i]);
  volatile float sink = hn::GetLane(hn::SumOfLanes(d, total));
  static_cast<void>(sink);
  return 2.0 * kChains * kLanes * static_cast<double>(iterations);
}

const TileKernels* kernels() {
  static const TileKernels table = {hwy::TargetName(HWY_TARGET),
                                    kLanes,
                                    kPanel,
                                    multiply,
                                    raise_references,
                                    softmax,
                                    weighted_softmax,
                                    attend_segment,
                                    segment_scores,
                                    gradient,
                                    weighted_gradient,
                                    transpose,
                                    argmax,
                                    exp2_all,
                                    fma_loop};
  return &table;
}

}  // namespace hyperattn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyperattn {

HWY_EXPORT(kernels);

const TileKernels& kernels_of_level(int64_t highway_target) {
  return *table_of_level(highway_target, [] { return HWY_DYNAMIC_DISPATCH(kernels)(); });
}

std::vector<int64_t> usable_levels() {
  std::vector<int64_t> levels;
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  // Highway numbers better targets lower.
  for (int bit = 0; bit < 63; ++bit)
    if ((usable >> bit & 1) != 0) levels.push_back(int64_t{1} << bit);
  return levels;
}

}  // namespace hyperattn
#endif
