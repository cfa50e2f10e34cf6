// Gradients of one phase on Hopper's matrix units, as forward_hopper.cuh goes: of queries by wide tiles of
// query rows, of keys and values by blocks of 64 ranks, whose rows come chunk by chunk.
#pragma once

#include "algorithms/engines/cuda/backward.cuh"
#include "algorithms/engines/cuda/forward_hopper.cuh"

namespace hyperattn::cuda {

constexpr int kGradientThreads = 256;
constexpr int kStages = 3;

/// The chunks on their way.
struct HopperChunks {
  HopperStage stage[kStages];
  float bias[kStages][kChunkKeys];
  int32_t first_rank[kStages];
  int32_t masked[kStages];  ///< not all rows see all keys of the chunk
};

struct HopperQueryShared {
  unsigned char queries[2 * kTileBytes];
  unsigned char upstream[2 * kTileBytes];
  HopperChunks chunks;
  int64_t query_row[kWideTileRows];
};
constexpr int64_t kHopperQueryBytes = sizeof(HopperQueryShared) + 1024;

constexpr int kRowsThreads = 128;

struct HopperRows {
  unsigned char queries[kTileBytes];
  unsigned char upstream[kTileBytes];
};

/// Chunks of 64 query rows on their way, and what is known of each.
struct HopperRowChunks {
  HopperRows stage[kStages];
  float maximum[kStages][64];
  float inverse[kStages][64];
  float delta[kStages][64];
  int32_t first[kStages][64];  ///< visible ranks
  int32_t last[kStages][64];
  float key_bias[kStages][64];  ///< of the job's ranks; −∞: these rows do not visit them
  int32_t masked[kStages];
};

struct HopperKeyShared {
  unsigned char keys[kTileBytes];
  unsigned char values[kTileBytes];
  HopperRowChunks chunks;
  int64_t key_row[64];
};
constexpr int64_t kHopperKeyBytes = sizeof(HopperKeyShared) + 1024;

#if HYPERATTN_HAS_WGMMA

/// Goes through the chunks that a tile visits, one ahead of those that are on their way. Four threads have a
/// key: each copies two pieces of its row, and two of its value's.
template <class T>
class ChunkGather {
 public:
  __device__ ChunkGather(const PlanArrays& plan, const InputArrays& inputs, const FlatTile& tile,
                         const FlatPass& pass)
      : plan_(plan), inputs_(inputs), tile_(tile), pass_(pass), visit_(tile.first_visit) {
    if (visit_ < tile_.last_visit) load_visit();
    find_next();
  }

  [[nodiscard]] __device__ bool more() const { return there_is_next_; }

  /// Starts the copies of the next chunk.
  __device__ void copy_next(HopperChunks& shared, int stage) {
    const int slot = static_cast<int>(threadIdx.x) / 4;
    const int piece = static_cast<int>(threadIdx.x) % 4;
    const bool there = row_ >= 0;
    const int64_t offset = (there ? row_ : 0) * kHopperColumns;
#pragma unroll
    for (int c = piece; c < 8; c += 4) {
      copy_piece(shared.stage[stage].keys + swizzled(slot, c), keys_ + offset + c * 8, there);
      copy_piece(shared.stage[stage].values + swizzled(slot, c), values_ + offset + c * 8, there);
    }
    if (piece == 0) shared.bias[stage][slot] = bias_;
    if (threadIdx.x == 0) {
      shared.first_rank[stage] = first_rank_;
      shared.masked[stage] = masked_ ? 1 : 0;
    }
    find_next();
  }

 private:
  __device__ void load_visit() {
    range_ = plan_.visits[visit_];
    begin_ = range_.begin;
    end_ = range_.end;
    if (!pass_.triangular) return;
    const int64_t first = first_visible(pass_, tile_.begin);
    const int64_t last = last_visible(pass_, tile_.begin + tile_.count - 1);
    begin_ = static_cast<int32_t>(first > begin_ ? first : begin_);
    end_ = static_cast<int32_t>(last < end_ ? last : end_);
  }

  __device__ void find_next() {
    while (visit_ < tile_.last_visit && begin_ >= end_)
      if (++visit_ < tile_.last_visit) load_visit();
    there_is_next_ = visit_ < tile_.last_visit;
    if (!there_is_next_) return;
    const FlatList& list = plan_.lists[range_.list];
    const int32_t rank = begin_ + static_cast<int32_t>(threadIdx.x) / 4;
    const bool there =
        rank < end_ && !is_among(plan_.integers, range_.excluded_begin, range_.excluded_end, rank);
    row_ = there ? list.source_row + row_of(list.order, rank, plan_.integers) : -1;
    bias_ = minus_infinity();
    if (there) bias_ = list.log_weight == kNone ? list.uniform : plan_.numbers[list.log_weight + rank];
    keys_ = static_cast<const T*>(list.synthetic != 0 ? inputs_.synthetic_key : inputs_.key);
    values_ = static_cast<const T*>(list.synthetic != 0 ? inputs_.synthetic_value : inputs_.value);
    first_rank_ = begin_;
    const int32_t chunk_end = begin_ + kChunkKeys < end_ ? begin_ + kChunkKeys : end_;
    masked_ = pass_.triangular && (begin_ < first_visible(pass_, tile_.begin + tile_.count - 1) ||
                                   chunk_end > last_visible(pass_, tile_.begin));
    begin_ += kChunkKeys;
  }

  const PlanArrays& plan_;
  const InputArrays& inputs_;
  const FlatTile& tile_;
  const FlatPass& pass_;
  int64_t visit_;
  FlatVisit range_;
  int32_t begin_ = 0;
  int32_t end_ = 0;
  bool there_is_next_ = false;
  int64_t row_ = -1;  ///< of the thread's key; −1: none
  float bias_ = 0;
  const T* keys_ = nullptr;
  const T* values_ = nullptr;
  int32_t first_rank_ = 0;
  bool masked_ = false;
};

/// Products to weighted scores, base 2; −∞ where the row does not see the key.
__device__ __forceinline__ void score_gradient_chunk(float (&x)[8][4], const HopperChunks& shared, int stage,
                                                     const OwnRows& own, float scale) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 bias = *reinterpret_cast<const float2*>(&shared.bias[stage][n * 8 + 2 * t]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      x[n][2 * h] = fmaf(x[n][2 * h], scale, bias.x);
      x[n][2 * h + 1] = fmaf(x[n][2 * h + 1], scale, bias.y);
    }
  }
  if (shared.masked[stage] == 0) return;
  const int32_t first_rank = shared.first_rank[stage];
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int32_t rank = first_rank + n * 8 + 2 * t + e % 2;
      if (rank < own.first[e / 2] || rank >= own.last[e / 2]) x[n][e] = minus_infinity();
    }
}

/// Starts copying the rows of a wide tile into two swizzled tiles; rows −1 are zeros.
template <class T>
__device__ __forceinline__ void copy_rows(unsigned char* tiles, const void* source, const int64_t* rows) {
  for (int i = static_cast<int>(threadIdx.x); i < kWideTileRows * 8; i += kGradientThreads) {
    const int64_t row = rows[i / 8];
    copy_piece(tiles + swizzled(i / 8, i % 8),
               static_cast<const T*>(source) + (row < 0 ? 0 : row) * kHopperColumns + i % 8 * 8, row >= 0);
  }
}

/// Starts copying the first chunks; returns how many.
template <class Gather, class Chunks>
__device__ __forceinline__ int begin_chunks(Gather& gather, Chunks& chunks) {
  int issued = 0;
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (gather.more()) {
      gather.copy_next(chunks, stage);
      ++issued;
    }
    end_copies();
  }
  return issued;
}

/// Waits for the chunk of a stage, and starts copying one more, if there is one, to the stage before it.
template <class Gather, class Chunks>
__device__ __forceinline__ void await_chunk(Gather& gather, Chunks& chunks, int stage, int& issued) {
  await_copies<kStages - 2>();
  show_to_products();
  __syncthreads();
  if (gather.more()) {
    gather.copy_next(chunks, stage == 0 ? kStages - 1 : stage - 1);
    ++issued;
  }
  end_copies();
}

/// Goes through the rows that visit a job's ranks. Two threads have a row; each copies half of it.
template <class T>
class RowGather {
 public:
  __device__ RowGather(const KeyGradientArguments& arguments, const KeyJob& job, const FlatPass& pass,
                       const FlatList& list)
      : arguments_(arguments), job_(job), pass_(pass), item_(job.first_item) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < job.count) weight_ = weights_of(list, job.rank + thread, arguments.plan.numbers).bias;
    if (item_ < job_.last_item) load_item();
    find_next();
  }

  [[nodiscard]] __device__ bool more() const { return there_is_next_; }

  __device__ void copy_next(HopperRowChunks& shared, int stage) {
    const int slot = static_cast<int>(threadIdx.x) / 2;
    const int half = static_cast<int>(threadIdx.x) % 2;
    const bool there = row_ >= 0;
    const int64_t offset = (there ? row_ : 0) * kHopperColumns;
    const T* query = static_cast<const T*>(arguments_.inputs.query) + offset;
    const T* upstream = static_cast<const T*>(arguments_.rows.upstream) + offset;
#pragma unroll
    for (int c = half; c < 8; c += 2) {
      copy_piece(shared.stage[stage].queries + swizzled(slot, c), query + c * 8, there);
      copy_piece(shared.stage[stage].upstream + swizzled(slot, c), upstream + c * 8, there);
    }
    if (half == 0) {
      shared.maximum[stage][slot] = maximum_;
      shared.inverse[stage][slot] = inverse_;
      shared.delta[stage][slot] = delta_;
      shared.first[stage][slot] = first_;
      shared.last[stage][slot] = last_;
    }
    if (threadIdx.x < 64) shared.key_bias[stage][threadIdx.x] = chunk_bias_;
    if (threadIdx.x == 0) shared.masked[stage] = masked_ ? 1 : 0;
    find_next();
  }

 private:
  __device__ void load_item() {
    const KeyItem item = arguments_.items[item_];
    begin_ = item.begin;
    end_ = item.end;
    narrow(pass_, job_, begin_, end_);
    const int32_t rank = job_.rank + static_cast<int32_t>(threadIdx.x);
    const bool seen = threadIdx.x < job_.count && rank >= item.first_rank && rank < item.last_rank &&
                      !is_among(arguments_.plan.integers, item.excluded_begin, item.excluded_end, rank);
    bias_ = seen ? weight_ : minus_infinity();
  }

  __device__ void find_next() {
    while (item_ < job_.last_item && begin_ >= end_)
      if (++item_ < job_.last_item) load_item();
    there_is_next_ = item_ < job_.last_item;
    if (!there_is_next_) return;
    const int64_t position = begin_ + static_cast<int>(threadIdx.x) / 2;
    const int64_t chunk_end = begin_ + 64 < end_ ? begin_ + 64 : end_;
    const bool there = position < end_;
    row_ = there ? pass_.row_base + row_of(pass_.queries, position, arguments_.plan.integers) : -1;
    maximum_ = there ? arguments_.rows.maximum[row_] : 0;
    inverse_ = there ? arguments_.rows.inverse[row_] : 0;
    delta_ = there ? arguments_.rows.delta[row_] : 0;
    first_ = pass_.triangular ? as_rank(first_visible(pass_, position)) : 0;
    last_ = pass_.triangular ? as_rank(last_visible(pass_, position)) : INT32_MAX;
    masked_ = !sees_all(pass_, job_, begin_, chunk_end);
    chunk_bias_ = bias_;
    begin_ += 64;
  }

  const KeyGradientArguments& arguments_;
  const KeyJob& job_;
  const FlatPass& pass_;
  int64_t item_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  float weight_ = 0;      ///< of the thread's rank of the job
  float bias_ = 0;        ///< the same for the rows of the item
  float chunk_bias_ = 0;  ///< of the next chunk
  bool there_is_next_ = false;
  bool masked_ = false;
  int64_t row_ = -1;
  float maximum_ = 0;
  float inverse_ = 0;
  float delta_ = 0;
  int32_t first_ = 0;
  int32_t last_ = 0;
};

/// Adds to (or writes) the 64 columns of the two rows of a thread.
__device__ __forceinline__ void store_gradient(float* row, int width, const float (&sum)[8][4], int h,
                                               float factor, bool add) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = c * 8 + 2 * t + e;
      if (column < width) row[column] = (add ? row[column] : 0) + factor * sum[c][2 * h + e];
    }
}

#endif

template <class T>
__global__ void __launch_bounds__(kGradientThreads, 2)
    hopper_query_gradient_kernel(QueryGradientArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& shared = aligned_shared<HopperQueryShared>(memory);
  const PlanArrays& plan = arguments.plan;
  const FlatTile tile = plan.tiles[arguments.first_tile + blockIdx.x];
  const FlatPass pass = plan.passes[tile.pass];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kWideTileRows) shared.query_row[thread] = query_row_of(tile, pass, plan.integers, thread);
  ChunkGather<T> gather(plan, arguments.inputs, tile, pass);
  __syncthreads();
  copy_rows<T>(shared.queries, arguments.inputs.query, shared.query_row);
  copy_rows<T>(shared.upstream, arguments.rows.upstream, shared.query_row);
  int issued = begin_chunks(gather, shared.chunks);
  const OwnRows own = own_rows(tile, pass);
  const OwnWeights known = own_weights(arguments.rows, shared.query_row, own);
  float sum[8][4] = {};
  const uint64_t queries = descriptor_of(shared.queries + thread / 128 * kTileBytes);
  const uint64_t upstream = descriptor_of(shared.upstream + thread / 128 * kTileBytes);
  for (int chunk = 0, stage = 0; chunk < issued; ++chunk) {
    await_chunk(gather, shared.chunks, stage, issued);
    const uint64_t keys = descriptor_of(shared.chunks.stage[stage].keys);
    const uint64_t values = descriptor_of(shared.chunks.stage[stage].values);
    float x[8][4] = {};
    float along[8][4] = {};
    begin_products();
    multiply_tiles<T>(x, queries, keys);
    multiply_tiles<T>(along, upstream, values);
    await_products(x);
    await_products(along);
    score_gradient_chunk(x, shared.chunks, stage, own, arguments.inputs.scale);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        x[n][e] = normalised<T>(x[n][e], known.maximum[e / 2], known.inverse[e / 2]) *
                  (along[n][e] - known.delta[e / 2]);
    uint32_t weights[4][4];
    pack_weights<T>(weights, x);
    begin_products();
    multiply_weights_tile<T>(sum, weights, keys);
    await_products(sum);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (own.there[h])
      store_gradient(arguments.dquery + shared.query_row[own.row[h]] * kHopperColumns, kHopperColumns, sum, h,
                     arguments.gradient_scale, true);
#endif
}

template <class T>
__global__ void __launch_bounds__(kRowsThreads, 3)
    hopper_key_gradient_kernel(KeyGradientArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& shared = aligned_shared<HopperKeyShared>(memory);
  const InputArrays& inputs = arguments.inputs;
  const PlanArrays& plan = arguments.plan;
  const KeyJob job = arguments.jobs[blockIdx.x];
  const FlatPass pass = plan.passes[job.pass];
  const FlatList& list = plan.lists[job.list];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 64)
    shared.key_row[thread] =
        thread < job.count ? list.source_row + row_of(list.order, job.rank + thread, plan.integers) : -1;
  RowGather<T> gather(arguments, job, pass, list);
  __syncthreads();
  const auto* key_rows = static_cast<const T*>(list.synthetic != 0 ? inputs.synthetic_key : inputs.key);
  const auto* value_rows = static_cast<const T*>(list.synthetic != 0 ? inputs.synthetic_value : inputs.value);
  for (int i = thread; i < 64 * 8; i += kRowsThreads) {
    const int64_t row = shared.key_row[i / 8];
    const int64_t offset = (row < 0 ? 0 : row) * kHopperColumns + i % 8 * 8;
    copy_piece(shared.keys + swizzled(i / 8, i % 8), key_rows + offset, row >= 0);
    copy_piece(shared.values + swizzled(i / 8, i % 8), value_rows + offset, row >= 0);
  }
  int issued = begin_chunks(gather, shared.chunks);
  const int warp = thread / 32;
  const int g = thread % 32 / 4;
  const int t = thread % 4;
  const int own_slot[2] = {warp * kWarpRows + g, warp * kWarpRows + g + 8};
  float dkey[8][4] = {};
  float dvalue[8][4] = {};
  const uint64_t keys = descriptor_of(shared.keys);
  const uint64_t values = descriptor_of(shared.values);
  for (int chunk = 0, stage = 0; chunk < issued; ++chunk) {
    await_chunk(gather, shared.chunks, stage, issued);
    const HopperRowChunks& rows = shared.chunks;
    const uint64_t queries = descriptor_of(rows.stage[stage].queries);
    const uint64_t upstream = descriptor_of(rows.stage[stage].upstream);
    float x[8][4] = {};
    float along[8][4] = {};
    begin_products();
    multiply_tiles<T>(x, keys, queries);
    multiply_tiles<T>(along, values, upstream);
    await_products(x);
    await_products(along);
    const float bias[2] = {rows.key_bias[stage][own_slot[0]], rows.key_bias[stage][own_slot[1]]};
    const bool masked = rows.masked[stage] != 0;
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int slot = n * 8 + 2 * t + e % 2;
        const int32_t rank = job.rank + own_slot[e / 2];
        float score = fmaf(x[n][e], inputs.scale, bias[e / 2]);
        if (masked && (rank < rows.first[stage][slot] || rank >= rows.last[stage][slot]))
          score = minus_infinity();
        x[n][e] = normalised<T>(score, rows.maximum[stage][slot], rows.inverse[stage][slot]);
        along[n][e] = x[n][e] * (along[n][e] - rows.delta[stage][slot]);
      }
    uint32_t weights[4][4];
    pack_weights<T>(weights, x);
    begin_products();
    multiply_weights_tile<T>(dvalue, weights, upstream);
    await_products(dvalue);
    pack_weights<T>(weights, along);
    begin_products();
    multiply_weights_tile<T>(dkey, weights, queries);
    await_products(dkey);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (own_slot[h] >= job.count) continue;
    if (job.slot < 0) {  // no other job of the launch has these keys
      const int64_t row = shared.key_row[own_slot[h]];
      store_gradient(arguments.value_gradient + row * arguments.value_width, arguments.value_width, dvalue, h,
                     1, true);
      store_gradient(arguments.key_gradient + row * arguments.key_width, arguments.key_width, dkey, h,
                     arguments.gradient_scale, true);
    } else {
      const int64_t row = (job.slot + own_slot[h]) * kHopperColumns;
      store_gradient(arguments.dvalue + row, kHopperColumns, dvalue, h, 1, false);
      store_gradient(arguments.dkey + row, kHopperColumns, dkey, h, arguments.gradient_scale, false);
    }
  }
#endif
}

}  // namespace hyperattn::cuda
