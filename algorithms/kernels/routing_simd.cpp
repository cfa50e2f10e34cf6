// Kernels of planning with a tree of keys, compiled for the same instruction sets as tile_simd.cpp.
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSSE3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "algorithms/kernels/routing_simd.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <limits>

#include "algorithms/kernels/routing.h"
#include "algorithms/kernels/table_of_level_internal.h"

HWY_BEFORE_NAMESPACE();
namespace hyperattn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using Vec = hn::Vec<D>;
constexpr int kLanes = HWY_LANES(float);

// A family is one vector where vectors are wide enough. Enough pairs of row and family go side by side to
// hide the latency of a multiply-add.
using Half = hn::CappedTag<float, kFamilyColumns>;
using HalfVec = hn::Vec<Half>;
constexpr int kHalfLanes = kLanes < kFamilyColumns ? kLanes : static_cast<int>(kFamilyColumns);
constexpr int kVectors = static_cast<int>(kFamilyColumns) / kHalfLanes;
constexpr int kPairs = kVectors == 1 ? 8 : kVectors == 2 ? 4 : 1;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Tag>
HWY_INLINE hn::Vec<Tag> gate_vector(Tag d, hn::Vec<Tag> product, const float* spread_roots, const float* bias,
                                    const GateTerms& terms) {
  const auto sigma = hn::Mul(hn::Set(d, terms.root), hn::LoadU(d, spread_roots));
  const auto tangent = hn::Min(sigma, hn::Set(d, terms.limit));
  const auto mean = hn::MulAdd(product, hn::Set(d, terms.scale), hn::LoadU(d, bias));
  return hn::MulAdd(tangent, hn::NegMulAdd(hn::Set(d, 0.5F), tangent, sigma), mean);
}

// `OneTile`: all pairs have the tile of the first, whose columns are then read once. (Loops over registers
// are flat: g++ unrolls nested ones too late to keep their arrays out of memory.)
template <int Pairs, bool OneTile>
HWY_INLINE void gate_batch(const FamilyArguments& a, const GatePair* pairs) {
  const Half d;
  const hn::RebindToSigned<Half> di;
  constexpr int kSums = Pairs * kVectors;
  constexpr int kTiles = OneTile ? 1 : Pairs;
  const float* tile[kTiles];
  const float* query[Pairs];
  HWY_UNROLL(8)
  for (int i = 0; i < kTiles; ++i) tile[i] = a.tiles + pairs[i].tile * family_floats(a.depth);
  HWY_UNROLL(8)
  for (int i = 0; i < Pairs; ++i) query[i] = a.queries + pairs[i].row * a.stride;
  HalfVec sum[kSums];
  HWY_UNROLL(16)
  for (int t = 0; t < kSums; ++t) sum[t] = hn::Zero(d);
  const int64_t floats = a.depth * kFamilyColumns;
  for (int64_t k = 0; k < a.depth; ++k) {
    const int64_t at = k * kFamilyColumns;
    HWY_UNROLL(16)
    for (int t = 0; t < kSums; ++t)
      sum[t] =
          hn::MulAdd(hn::Set(d, query[t / kVectors][k]),
                     hn::LoadU(d, tile[OneTile ? 0 : t / kVectors] + at + t % kVectors * kHalfLanes), sum[t]);
  }
  GateTerms terms = a.terms;
  HWY_UNROLL(16)
  for (int t = 0; t < kSums; ++t) {
    const int column = t % kVectors * kHalfLanes;
    const GatePair& pair = pairs[t / kVectors];
    const float* roots = tile[OneTile ? 0 : t / kVectors] + floats + column;
    const int64_t place = pair.place * kFamilyColumns + column;
    terms.root = a.roots[pair.row];
    hn::StoreU(gate_vector(d, sum[t], roots, roots + kFamilyColumns, terms), d, a.gates + place);
    hn::StoreU(hn::Iota(di, a.first_segment[pair.tile] + column), di, a.segments + place);
  }
}

// Picks the instance for `count` pairs.
template <int Pairs, bool OneTile>
HWY_INLINE void gate_pairs(const FamilyArguments& a, const GatePair* pairs, int64_t count) {
  if constexpr (Pairs > 0) {
    if (count == Pairs)
      gate_batch<Pairs, OneTile>(a, pairs);
    else
      gate_pairs<Pairs - 1, OneTile>(a, pairs, count);
  }
}

// Pairs of one tile that follow each other, in batches of about the same size; few ones with those of the
// next tiles.
void gate_families(const FamilyArguments& a) {
  constexpr int64_t kFew = kPairs / 4;
  for (int64_t first = 0; first < a.count;) {
    const GatePair* pairs = a.pairs + first;
    const int64_t left = a.count - first;
    int64_t alike = 1;
    while (alike < 2 * kPairs && alike < left && pairs[alike].tile == pairs[0].tile) ++alike;
    if (alike > kFew) {
      const int64_t count = alike <= kPairs ? alike : alike < 2 * kPairs ? (alike + 1) / 2 : kPairs;
      gate_pairs<kPairs, true>(a, pairs, count);
      first += count;
    } else {
      const int64_t count = left < kPairs ? left : kPairs;
      gate_pairs<kPairs, false>(a, pairs, count);
      first += count;
    }
  }
}

void gate(float* products, const float* spread_roots, const float* bias, int64_t count,
          const GateTerms& terms) {
  const D d;
  for (int64_t j = 0; j < count; j += kLanes)
    hn::StoreU(gate_vector(d, hn::LoadU(d, products + j), spread_roots + j, bias + j, terms), d,
               products + j);
}

HWY_INLINE int64_t count_above(const float* x, int64_t count, float border) {
  const D d;
  const Vec limit = hn::Set(d, border);
  size_t above = 0;
  for (int64_t j = 0; j < count; j += kLanes) above += hn::CountTrue(d, hn::Gt(hn::LoadU(d, x + j), limit));
  return static_cast<int64_t>(above);
}

struct Range {
  float low;
  float high;
};

// Of the numbers above −∞.
HWY_INLINE Range range_of(const float* x, int64_t count) {
  const D d;
  const Vec none = hn::Set(d, -kInfinity);
  Vec low = hn::Set(d, kInfinity);
  Vec high = none;
  for (int64_t j = 0; j < count; j += kLanes) {
    const Vec v = hn::LoadU(d, x + j);
    low = hn::Min(low, hn::IfThenElse(hn::Gt(v, none), v, low));
    high = hn::Max(high, v);
  }
  return {hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
}

// −∞ if there is none.
float largest_below(const float* x, int64_t count, float border) {
  const D d;
  const Vec limit = hn::Set(d, border);
  const Vec none = hn::Set(d, -kInfinity);
  Vec best = none;
  for (int64_t j = 0; j < count; j += kLanes) {
    const Vec v = hn::LoadU(d, x + j);
    best = hn::Max(best, hn::IfThenElse(hn::Lt(v, limit), v, none));
  }
  return hn::GetLane(hn::MaxOfLanes(d, best));
}

// Numbers above `border` are chosen, and the first `equal` of those at it.
struct Border {
  float border;
  int64_t equal;
};

// Bisection parts all but close numbers; the last of these are gone through one by one.
Border border_of(const float* x, int64_t count, int64_t keep) {
  constexpr int kSteps = 16;
  if (keep >= count_above(x, count, -kInfinity)) return {-kInfinity, 0};
  Range range = range_of(x, count);
  for (int step = 0; step < kSteps; ++step) {
    const float middle = range.low + 0.5F * (range.high - range.low);
    if (!(range.low < middle && middle < range.high)) break;
    const int64_t above = count_above(x, count, middle);
    if (above == keep) return {middle, 0};
    (above > keep ? range.low : range.high) = middle;
  }
  // Fewer than `keep` lie above the range's upper end.
  float border = range.high;
  int64_t above = count_above(x, count, border);
  for (float next = border; next > -kInfinity;) {
    next = largest_below(x, count, border);
    const int64_t at_or_above = count_above(x, count, next);
    if (at_or_above >= keep) break;
    above = at_or_above;
    border = next;
  }
  return {border, keep - above};
}

int64_t largest(const float* gates, const int32_t* segments, int64_t count, int64_t keep, int32_t* chosen) {
  const D d;
  const hn::RebindToSigned<D> di;
  const Border part = border_of(gates, count, keep);
  int32_t* next = chosen;
  if (part.equal == 0) {
    const Vec limit = hn::Set(d, part.border);
    for (int64_t j = 0; j < count; j += kLanes) {
      const auto above = hn::RebindMask(di, hn::Gt(hn::LoadU(d, gates + j), limit));
      hn::StoreU(hn::Compress(hn::LoadU(di, segments + j), above), di, next);
      next += hn::CountTrue(di, above);
    }
    return next - chosen;
  }
  int64_t equal = part.equal;
  for (int64_t j = 0; j < count; ++j)
    if (gates[j] > part.border || (gates[j] == part.border && equal-- > 0)) *next++ = segments[j];
  return next - chosen;
}

HWY_INLINE const float* row_of(const NamedRows& a, int64_t i) {
  return a.data + (a.rows == nullptr ? i : a.rows[i]) * a.stride;
}

template <int Rows>
HWY_INLINE void project_rows(const ProjectArguments& p, int64_t first) {
  const D d;
  const float* row[Rows];
  Vec sum[Rows];
  HWY_UNROLL(8)
  for (int i = 0; i < Rows; ++i) {
    row[i] = row_of(p, first + i);
    sum[i] = hn::Zero(d);
  }
  const int64_t whole = p.depth / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    const Vec u = hn::LoadU(d, p.direction + c);
    HWY_UNROLL(8)
    for (int i = 0; i < Rows; ++i) sum[i] = hn::MulAdd(hn::LoadU(d, row[i] + c), u, sum[i]);
  }
  HWY_UNROLL(8)
  for (int i = 0; i < Rows; ++i) {
    float product = hn::GetLane(hn::SumOfLanes(d, sum[i]));
    for (int64_t c = whole; c < p.depth; ++c) product += row[i][c] * p.direction[c];
    p.products[first + i] = product;
  }
}

// Rows that are named lie scattered: asking for them early hides their latency.
HWY_INLINE void prefetch_rows(const ProjectArguments& p, int64_t first, int64_t last) {
  constexpr int64_t kLine = 16;
  for (int64_t i = first; i < last && i < p.count; ++i)
    for (int64_t c = 0; c < p.depth; c += kLine) __builtin_prefetch(p.data + p.rows[i] * p.stride + c);
}

void project(const ProjectArguments& p) {
  constexpr int kRows = 4;
  constexpr int64_t kAhead = 12;
  if (p.rows != nullptr) prefetch_rows(p, 0, kAhead);
  int64_t i = 0;
  for (; i + kRows <= p.count; i += kRows) {
    if (p.rows != nullptr) prefetch_rows(p, i + kAhead, i + kAhead + kRows);
    project_rows<kRows>(p, i);
  }
  for (; i < p.count; ++i) project_rows<1>(p, i);
}

template <int Vectors>
HWY_INLINE void deviate_columns(const DeviationArguments& a, int64_t column) {
  const D d;
  Vec mean[Vectors];
  HWY_UNROLL(8)
  for (int v = 0; v < Vectors; ++v) mean[v] = hn::Zero(d);
  float* target = a.deviations + column;
  for (int64_t i = 0; i < a.count; ++i, target += a.depth) {
    const float* row = row_of(a, i) + column;
    HWY_UNROLL(8)
    for (int v = 0; v < Vectors; ++v) {
      const Vec x = hn::LoadU(d, row + v * kLanes);
      hn::StoreU(x, d, target + v * kLanes);
      mean[v] = hn::Add(mean[v], x);
    }
  }
  const Vec count = hn::Set(d, static_cast<float>(a.count));
  HWY_UNROLL(8)
  for (int v = 0; v < Vectors; ++v) mean[v] = hn::Div(mean[v], count);
  target = a.deviations + column;
  for (int64_t i = 0; i < a.count; ++i, target += a.depth) HWY_UNROLL(8)
  for (int v = 0; v < Vectors; ++v)
    hn::StoreU(hn::Sub(hn::LoadU(d, target + v * kLanes), mean[v]), d, target + v * kLanes);
}

void deviations(const DeviationArguments& a) {
  constexpr int kWide = 4;
  int64_t column = 0;
  for (; column + kWide * kLanes <= a.depth; column += kWide * kLanes) deviate_columns<kWide>(a, column);
  for (; column + kLanes <= a.depth; column += kLanes) deviate_columns<1>(a, column);
  for (; column < a.depth; ++column) {
    float mean = 0;
    for (int64_t i = 0; i < a.count; ++i) mean += row_of(a, i)[column];
    mean /= static_cast<float>(a.count);
    for (int64_t i = 0; i < a.count; ++i) a.deviations[i * a.depth + column] = row_of(a, i)[column] - mean;
  }
}

template <int Vectors>
HWY_INLINE void combine_columns(const CombineArguments& a, int64_t column) {
  const D d;
  Vec sum[Vectors];
  HWY_UNROLL(8)
  for (int v = 0; v < Vectors; ++v) sum[v] = hn::Zero(d);
  for (int64_t i = 0; i < a.count; ++i) {
    const float* row = row_of(a, i) + column;
    const Vec factor = hn::Set(d, a.factors[i]);
    HWY_UNROLL(8)
    for (int v = 0; v < Vectors; ++v) sum[v] = hn::MulAdd(factor, hn::LoadU(d, row + v * kLanes), sum[v]);
  }
  HWY_UNROLL(8)
  for (int v = 0; v < Vectors; ++v) hn::StoreU(sum[v], d, a.sum + column + v * kLanes);
}

void combine(const CombineArguments& a) {
  constexpr int kWide = 4;
  int64_t column = 0;
  for (; column + kWide * kLanes <= a.depth; column += kWide * kLanes) combine_columns<kWide>(a, column);
  for (; column + kLanes <= a.depth; column += kLanes) combine_columns<1>(a, column);
  for (; column < a.depth; ++column) {
    a.sum[column] = 0;
    for (int64_t i = 0; i < a.count; ++i) a.sum[column] += a.factors[i] * row_of(a, i)[column];
  }
}

void ranks(const int32_t* numbers, int64_t count, int32_t* ranks) {
  const hn::ScalableTag<int32_t> d;
  const auto one = hn::Set(d, 1);
  const auto zero = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto own = hn::LoadU(d, numbers + i);
    const auto places = hn::Iota(d, static_cast<int32_t>(i));
    const int64_t end = i + kLanes < count ? i + kLanes : count;
    auto rank = zero;
    for (int64_t j = 0; j < i; ++j)
      rank = hn::Add(rank, hn::IfThenElse(hn::Gt(hn::Set(d, numbers[j]), own), zero, one));
    for (int64_t j = i; j < end; ++j) {
      const auto other = hn::Set(d, numbers[j]);
      const auto before = hn::And(hn::Eq(other, own), hn::Gt(places, hn::Set(d, static_cast<int32_t>(j))));
      rank = hn::Add(rank, hn::IfThenElseZero(hn::Or(hn::Lt(other, own), before), one));
    }
    for (int64_t j = end; j < count; ++j)
      rank = hn::Add(rank, hn::IfThenElseZero(hn::Lt(hn::Set(d, numbers[j]), own), one));
    hn::StoreU(rank, d, ranks + i);
  }
}

const RoutingKernels* routing_table() {
  static const RoutingKernels table = {gate_families, gate, largest, project, deviations, combine, ranks};
  return &table;
}

}  // namespace hyperattn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyperattn {

HWY_EXPORT(routing_table);

const RoutingKernels& routing_kernels_of_level(int64_t highway_target) {
  return *table_of_level(highway_target, [] { return HWY_DYNAMIC_DISPATCH(routing_table)(); });
}

}  // namespace hyperattn
#endif
