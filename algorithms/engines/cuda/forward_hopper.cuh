// The forward pass of one phase on Hopper's matrix units, for rows of 64 columns in 16 bits and key lists
// that the rows of a tile share: eight warps for 128 query rows. Keys and values of the chunks that follow
// are on their way into shared memory, gathered by their ranks, while a chunk is multiplied.
#pragma once

#include <type_traits>

#include "algorithms/engines/cuda/forward.cuh"
#include "algorithms/engines/cuda/wgmma.cuh"

namespace hyperattn::cuda {

constexpr int kHopperThreads = 256;
constexpr int kHopperColumns = 64;
constexpr int kChunkKeys = 64;
constexpr int kStages = 3;

struct HopperStage {
  unsigned char keys[kTileBytes];
  unsigned char values[kTileBytes];
};

/// The chunks on their way.
struct HopperChunks {
  HopperStage stage[kStages];
  float bias[kStages][kChunkKeys];
  int32_t first_rank[kStages];
  int32_t masked[kStages];  ///< not all rows see all keys of the chunk
};

struct HopperShared {
  unsigned char queries[2 * kTileBytes];
  HopperChunks chunks;
  int64_t query_row[kWideTileRows];
};
/// With room to begin at a multiple of 1024.
constexpr int64_t kHopperSharedBytes = sizeof(HopperShared) + 1024;

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
__device__ __forceinline__ void score_chunk(float (&x)[8][4], const HopperChunks& shared, int stage,
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

/// A 64 × 64 piece in registers, rounded, as the left side of products.
template <class T>
__device__ __forceinline__ void pack_weights(uint32_t (&weights)[4][4], const float (&x)[8][4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[j][i] =
          pack(x[2 * j + i / 2][i % 2 * 2], x[2 * j + i / 2][i % 2 * 2 + 1], static_cast<const T*>(nullptr));
}

/// Starts copying the rows of a wide tile into two swizzled tiles; rows −1 are zeros.
template <class T>
__device__ __forceinline__ void copy_rows(unsigned char* tiles, const void* source, const int64_t* rows) {
  for (int i = static_cast<int>(threadIdx.x); i < kWideTileRows * 8; i += kHopperThreads) {
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

/// x (64 × 64) = tile · (tile)ᵀ.
template <class T>
__device__ __forceinline__ void multiply_tiles(float (&x)[8][4], uint64_t left, uint64_t right) {
#pragma unroll
  for (int step = 0; step < 4; ++step)  // 16 columns are 32 bytes
    multiply_rows<T>(x, left + 2 * step, right + 2 * step, step > 0 ? 1 : 0);
}

/// x (64 × 64) += weights · tile.
template <class T>
__device__ __forceinline__ void multiply_weights_tile(float (&x)[8][4], const uint32_t (&weights)[4][4],
                                                      uint64_t tile) {
#pragma unroll
  for (int step = 0; step < 4; ++step)  // 16 rows are 2048 bytes
    multiply_weights<T>(x, weights[step], tile + 128 * step);
}

/// The shared memory of a block, from a multiple of 1024 on.
template <class Shared>
__device__ __forceinline__ Shared& aligned_shared(unsigned char* memory) {
  return *reinterpret_cast<Shared*>(memory + ((1024 - (shared_address(memory) & 1023)) & 1023));
}

/// Scores to weights; maxima, sums and numerators follow the new maxima.
template <class T>
__device__ __forceinline__ void weigh_chunk(float (&x)[8][4], RunningRows<8>& run) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = run.maximum[h];
#pragma unroll
    for (int n = 0; n < 8; ++n) most = fmaxf(most, fmaxf(x[n][2 * h], x[n][2 * h + 1]));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
    const float reference = most > minus_infinity() ? most : 0;
    const float kept = power_of_two<T>(run.maximum[h] - reference);
    run.maximum[h] = most;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float weight = power_of_two<T>(x[n][2 * h + e] - reference);
        sum += weight;
        x[n][2 * h + e] = weight;
      }
    run.sum[h] = run.sum[h] * static_cast<double>(kept) + static_cast<double>(sum);
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      run.out[c][2 * h] *= kept;
      run.out[c][2 * h + 1] *= kept;
    }
  }
}

#endif

template <class T>
__global__ void __launch_bounds__(kHopperThreads, 2) hopper_forward_kernel(ForwardArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& shared = aligned_shared<HopperShared>(memory);
  const PlanArrays& plan = arguments.plan;
  const InputArrays& inputs = arguments.inputs;
  const FlatTile tile = plan.tiles[arguments.first_tile + blockIdx.x];
  const FlatPass pass = plan.passes[tile.pass];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kWideTileRows) shared.query_row[thread] = query_row_of(tile, pass, plan.integers, thread);
  ChunkGather<T> gather(plan, inputs, tile, pass);
  __syncthreads();
  copy_rows<T>(shared.queries, inputs.query, shared.query_row);
  int issued = begin_chunks(gather, shared.chunks);
  const OwnRows own = own_rows(tile, pass);
  RunningRows<8> run;
  load_state(arguments.state, shared.query_row, own, kHopperColumns, run);
  const uint64_t queries = descriptor_of(shared.queries + thread / 128 * kTileBytes);
  for (int chunk = 0, stage = 0; chunk < issued; ++chunk) {
    await_chunk(gather, shared.chunks, stage, issued);
    const uint64_t keys = descriptor_of(shared.chunks.stage[stage].keys);
    const uint64_t values = descriptor_of(shared.chunks.stage[stage].values);
    float x[8][4] = {};
    begin_products();
    multiply_tiles<T>(x, queries, keys);
    await_products(x);
    score_chunk(x, shared.chunks, stage, own, inputs.scale);
    weigh_chunk<T>(x, run);
    uint32_t weights[4][4];
    pack_weights<T>(weights, x);
    begin_products();
    multiply_weights_tile<T>(run.out, weights, values);
    await_products(run.out);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  if (arguments.finish.lse != nullptr)
    store_finished(arguments.finish, shared.query_row, own, run);
  else
    store_state(arguments.state, shared.query_row, own, kHopperColumns, run);
#endif
}

/// Whether the kernel that was loaded is that for Hopper, and not one that the driver made of general code.
template <class T>
bool is_hopper_code() {
  static const bool is = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, hopper_forward_kernel<T>) == cudaSuccess &&
           attributes.ptxVersion == 90;
  }();
  return is;
}

}  // namespace hyperattn::cuda
