// A tile of query rows goes through all that it visits, chunk by chunk of keys: the walk that the forward
// pass and the gradient of queries share.
#pragma once

#include "algorithms/engines/cuda/tile.cuh"

namespace hyperattn::cuda {

/// What a chunk of K keys says of its keys and, for segments, of which rows see them.
template <int K>
struct ChunkShared {
  int64_t row[K];
  int32_t rank[K];
  float bias[K];
  float numerator[K];
  float denominator[K];
  float factor[K];
  uint16_t seen[kPackSegments][kTileRows];
};

/// The same for all threads of a chunk.
struct ChunkTraits {
  const FlatList* list = nullptr;
  bool segments = false;  ///< `seen` tells which rows see which keys
  bool alike = false;     ///< all rows see the same keys, with weights that are the bias alone
};

/// Rows of the tile that a thread holds: g and g + 8 of its warp.
struct OwnRows {
  int row[2];
  int64_t position[2];
  int64_t first[2];  ///< visible ranks, of triangular passes
  int64_t last[2];
  bool there[2];
};

/// `warp` of those that share the tile.
__device__ __forceinline__ OwnRows own_rows(const FlatTile& tile, const FlatPass& pass, int warp) {
  OwnRows own;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    own.row[h] = warp * kWarpRows + g + 8 * h;
    own.there[h] = own.row[h] < tile.count;
    own.position[h] = tile.begin + own.row[h];
    own.first[h] = pass.triangular ? first_visible(pass, own.position[h]) : 0;
    own.last[h] = pass.triangular ? last_visible(pass, own.position[h]) : INT64_MAX;
  }
  return own;
}

__device__ __forceinline__ OwnRows own_rows(const FlatTile& tile, const FlatPass& pass) {
  return own_rows(tile, pass, static_cast<int>(threadIdx.x) / 32);
}

/// The number of a tile's query row, −1 beyond its end.
__device__ __forceinline__ int64_t query_row_of(const FlatTile& tile, const FlatPass& pass,
                                                const int32_t* integers, int i) {
  return i < tile.count ? pass.row_base + row_of(pass.queries, tile.begin + i, integers) : -1;
}

/// Those of all rows of a tile; then needs a barrier.
__device__ __forceinline__ void find_rows(const FlatTile& tile, const FlatPass& pass, const int32_t* integers,
                                          int64_t* rows) {
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows; i += kThreads)
    rows[i] = query_row_of(tile, pass, integers, i);
}

/// A slot is a rank of a list, or (where it is not `there`) no key.
template <int K>
__device__ __forceinline__ void describe_slot(const PlanArrays& plan, const FlatList& list, int64_t rank,
                                              bool there, int slot, ChunkShared<K>& chunk) {
  const RankWeights weights = there ? weights_of(list, rank, plan.numbers) : RankWeights{};
  chunk.rank[slot] = static_cast<int32_t>(rank);
  chunk.bias[slot] = there ? weights.bias : minus_infinity();
  chunk.numerator[slot] = weights.numerator;
  chunk.denominator[slot] = weights.denominator;
  chunk.factor[slot] = weights.factor;
  chunk.row[slot] = there ? list.source_row + row_of(list.order, rank, plan.integers) : -1;
}

/// Slots [0, K) are ranks begin, begin + 1, … below end, but for the excluded.
template <int K>
__device__ __forceinline__ void describe_visit(const PlanArrays& plan, const FlatVisit& visit,
                                               const FlatList& list, int64_t begin, int64_t end,
                                               ChunkShared<K>& chunk) {
  for (int slot = static_cast<int>(threadIdx.x); slot < K; slot += kThreads) {
    const int64_t rank = begin + slot;
    const bool there = rank < end && !is_among(plan.integers, visit.excluded_begin, visit.excluded_end,
                                               static_cast<int32_t>(rank));
    describe_slot(plan, list, rank, there, slot, chunk);
  }
}

/// Slots [16·s, 16·s + 16) are the ranks of segment s of those from `first` on.
template <int K>
__device__ __forceinline__ void describe_segments(const PlanArrays& plan, const FlatPack& pack, int first,
                                                  const FlatList& list, ChunkShared<K>& chunk) {
  constexpr int kSegments = K / 16;
  for (int slot = static_cast<int>(threadIdx.x); slot < K; slot += kThreads) {
    const int segment = first + slot / 16;
    const int64_t rank = pack.begin[segment] + slot % 16;
    const bool there = rank < pack.end[segment];
    describe_slot(plan, list, rank, there, slot, chunk);
  }
  for (int i = static_cast<int>(threadIdx.x); i < kSegments * kTileRows; i += kThreads)
    chunk.seen[i / kTileRows][i % kTileRows] = 0;
}

/// Marks the rows that see each segment; after a barrier behind describe_segments.
template <int K>
__device__ __forceinline__ void mark_entries(const PlanArrays& plan, const FlatTile& tile,
                                             const FlatPack& pack, int first, ChunkShared<K>& chunk) {
  constexpr int kSegments = K / 16;
#pragma unroll
  for (int s = 0; s < kSegments; ++s)
    for (int64_t e = pack.first_entry[first + s] + static_cast<int>(threadIdx.x);
         e < pack.last_entry[first + s]; e += kThreads)
      chunk.seen[s][plan.entries[e].position - tile.begin] = static_cast<uint16_t>(~plan.entries[e].skip);
}

/// Goes through the chunks of what a tile visits: first its shared visits, then its packs of segments.
template <int K>
class ChunkWalk {
 public:
  __device__ ChunkWalk(const PlanArrays& plan, const FlatTile& tile, const FlatPass& pass, bool capped)
      : plan_(plan),
        tile_(tile),
        pass_(pass),
        capped_(capped),
        visit_(tile.first_visit),
        pack_(tile.first_pack) {
    if (visit_ < tile.last_visit) load_visit();
  }

  /// Describes the next chunk, between barriers: afterwards the tile of keys may be overwritten, and the
  /// description read after one more barrier. False: there is none.
  __device__ bool next(ChunkShared<K>& chunk, ChunkTraits& traits) {
    while (visit_ < tile_.last_visit) {
      if (begin_ < end_) {
        describe_chunk_of_visit(chunk, traits);
        return true;
      }
      if (++visit_ < tile_.last_visit) load_visit();
    }
    if (pack_ >= tile_.last_pack) return false;
    describe_chunk_of_pack(chunk, traits);
    return true;
  }

 private:
  __device__ void load_visit() {
    visit_range_ = plan_.visits[visit_];
    begin_ = visit_range_.begin;
    end_ = visit_range_.end;
    if (!pass_.triangular) return;
    const int64_t first = first_visible(pass_, tile_.begin);
    const int64_t last = last_visible(pass_, tile_.begin + tile_.count - 1);
    begin_ = first > begin_ ? first : begin_;
    end_ = last < end_ ? last : end_;
  }

  __device__ void describe_chunk_of_visit(ChunkShared<K>& chunk, ChunkTraits& traits) {
    const FlatList& list = plan_.lists[visit_range_.list];
    __syncthreads();
    describe_visit(plan_, visit_range_, list, begin_, end_, chunk);
    const bool all_see =
        !pass_.triangular || (begin_ >= first_visible(pass_, tile_.begin + tile_.count - 1) &&
                              (begin_ + K < end_ ? begin_ + K : end_) <= last_visible(pass_, tile_.begin));
    traits = {&list, false, all_see && !capped_ && list.factor_row == kNone && list.numerator == kNone};
    begin_ += K;
  }

  __device__ void describe_chunk_of_pack(ChunkShared<K>& chunk, ChunkTraits& traits) {
    const FlatPack& pack = plan_.packs[pack_];
    const FlatList& list = plan_.lists[pack.list];
    __syncthreads();
    describe_segments(plan_, pack, segment_, list, chunk);
    __syncthreads();
    mark_entries(plan_, tile_, pack, segment_, chunk);
    traits = {&list, true, false};
    segment_ += K / 16;  // packs are filled from the front
    if (segment_ >= kPackSegments || pack.begin[segment_] >= pack.end[segment_]) {
      segment_ = 0;
      ++pack_;
    }
  }

  const PlanArrays& plan_;
  const FlatTile& tile_;
  const FlatPass& pass_;
  bool capped_;
  int64_t visit_;
  FlatVisit visit_range_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t pack_;
  int segment_ = 0;
};

/// Turns products q·k of a chunk into weighted scores, base 2; −∞ where the row does not see the key. Calls
/// capped() for every seen score above its row's cap.
template <int K, class Capped>
__device__ __forceinline__ void weigh_scores(float (&x)[K / 8][4], const ChunkShared<K>& chunk,
                                             const ChunkTraits& traits, const OwnRows& own, bool triangular,
                                             float scale, const float (&cap)[2], const float* numbers,
                                             const Capped& capped) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  if (traits.alike) {
#pragma unroll
    for (int n = 0; n < K / 8; ++n) {
      const float2 bias = *reinterpret_cast<const float2*>(&chunk.bias[n * 8 + 2 * t]);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        x[n][2 * h] = fmaf(x[n][2 * h], scale, bias.x);
        x[n][2 * h + 1] = fmaf(x[n][2 * h + 1], scale, bias.y);
      }
    }
    return;
  }
  float row_factor[2] = {0, 0};
  const bool factor = traits.list->factor_row != kNone;
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (factor && own.there[h]) row_factor[h] = numbers[traits.list->factor_row + own.position[h]];
#pragma unroll
  for (int n = 0; n < K / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int slot = n * 8 + 2 * t + e % 2;
      const int h = e / 2;
      bool seen = own.there[h] && chunk.bias[slot] > minus_infinity();
      if (triangular) seen = seen && chunk.rank[slot] >= own.first[h] && chunk.rank[slot] < own.last[h];
      if (traits.segments) seen = seen && (chunk.seen[slot / 16][own.row[h]] >> (slot % 16) & 1) != 0;
      float score = x[n][e] * scale;
      if (seen && score > cap[h]) {
        score = cap[h];
        capped();
      }
      score += chunk.bias[slot];
      if (factor && seen) score += factor_bias(row_factor[h], chunk.factor[slot]);
      x[n][e] = seen ? score : minus_infinity();
    }
}

}  // namespace hyperattn::cuda
