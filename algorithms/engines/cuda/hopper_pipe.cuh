// How tiles of query rows and chunks of keys reach the matrix units of Hopper: in a block, one warp reads
// what the tiles of a launch are, three walk through what they visit, and have rows gathered into shared
// memory by their ranks, while the others multiply what has arrived. Barriers in shared memory say what is
// full and what free, so the gathers of a tile are under way before the one ahead of it is finished. On an
// H100 (1980 MHz, bf16, 32 heads of 131072 rows) the forward kernel takes 1.6 ms for `hyper` in place of 3.1
// where each thread gathers, too, and waits for its block. The warps that gather are to be quick: where their
// state did not fit their registers (spilled words wait behind copies) `hyper` took 2.3 to 2.5 ms, and 1.8
// where two warps gathered all chunks together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "algorithms/engines/cuda/row_tile.cuh"
#include "algorithms/engines/cuda/wgmma.cuh"

namespace hyperattn::cuda {

constexpr int kHopperColumns = 64;
constexpr int kChunkKeys = 64;
/// Warps that gather take turns with chunks.
constexpr int kGatheringWarps = 3;

/// How a kernel parts a block: warps that multiply, warps that gather, and one that reads what the next tiles
/// are. What the threads of the last two have fewer of registers than the launch gives, those that multiply
/// have more. Sources of query rows are matrices.
struct ForwardShape {
  static constexpr int kMatrices = 1;
  static constexpr int kTileRows = kWidestTileRows;
  static constexpr int kStages = 8;
  static constexpr int kBlocks = 1;
  /// With 104, the compiler has each product wait for the one before it (its note C7512).
  static constexpr int kMultiplierRegisters = 112;
  static constexpr int kFeedRegisters = 32;
};
/// For groups of no more rows than this: half of a larger tile would multiply nothing. Two blocks share a
/// multiprocessor: one has products when those of the other wait for one another, as they do with so few
/// registers. (`hyper` with blocks of 64 and 256 samples, 32 heads of 131072 rows on an H100: 3.1 ms, 3.3
/// with one block and 4.1 with tiles of 256.)
struct NarrowForwardShape {
  static constexpr int kMatrices = 1;
  static constexpr int kTileRows = kWideTileRows;
  static constexpr int kStages = 4;
  static constexpr int kBlocks = 2;
  static constexpr int kMultiplierRegisters = 104;
  static constexpr int kFeedRegisters = 32;
};
/// Accumulators of two products beside the gradient leave room for fewer rows.
struct QueryGradientShape {
  static constexpr int kMatrices = 2;
  static constexpr int kTileRows = kWideTileRows;
  static constexpr int kStages = 6;
  static constexpr int kMultiplierRegisters = 224;
  static constexpr int kFeedRegisters = 56;
};
/// Warps that multiply, each 16 rows of a tile; and threads, of which the last 128 gather and read.
template <class Shape>
constexpr int kHopperWarps = Shape::kTileRows / kWarpRows;
template <class Shape>
constexpr int kMultipliers = 32 * kHopperWarps<Shape>;
template <class Shape>
constexpr int kHopperThreads = kMultipliers<Shape> + 128;

struct HopperStage {
  unsigned char keys[kTileBytes];
  unsigned char values[kTileBytes];
};

/// What a chunk says of its keys.
struct ChunkNote {
  int32_t first_rank;
  int32_t is_last;  ///< of the tile
  float bias;       ///< where the rows of the tile all see its keys, and all with one weight, that; else NaN
  int32_t is_masked;  ///< not all rows see all keys
};

/// What a warp that gathers reads of its visit.
struct FeedList {
  const int32_t* order;  ///< null: a run
  int64_t first_row;     ///< what to add to the order's, or to ranks
  const float* weights;  ///< null: all `uniform`
  float uniform;
  int32_t is_synthetic;
  const int32_t* excluded;
  int32_t excluded_count;
  int32_t begin;  ///< the ranks that some row of the tile sees
  int32_t end;
  int32_t seen_begin;  ///< all rows of the tile see these ranks
  int32_t seen_end;
};

/// What a tile is, with the first of its lists.
struct TileNote {
  static constexpr int kLists = 2;
  FlatTile tile;
  FlatPass pass;
  FeedList list[kLists];
  int32_t is_end;  ///< there is no tile
};

/// Words of 8 bytes of plain structs, which the threads of a warp copy side by side.
template <class U>
constexpr unsigned kWords = sizeof(U) / 8;
static_assert(sizeof(FlatTile) % 8 == 0 && sizeof(FlatPass) % 8 == 0 && sizeof(FlatVisit) % 8 == 0 &&
              sizeof(FlatList) % 8 == 0);

/// What is known of the next tiles, two tiles with their rows (queries, gradients), and the chunks on their
/// way.
template <class Shape>
struct alignas(1024) HopperPipe {
  static constexpr int kNotes = 4;
  unsigned char rows[2][Shape::kMatrices][Shape::kTileRows / kProductRows * kTileBytes];
  HopperStage stage[Shape::kStages];
  float bias[Shape::kStages][kChunkKeys];
  ChunkNote chunk[Shape::kStages];
  TileNote note[kNotes];
  int64_t query_row[kNotes][Shape::kTileRows];
  FlatVisit visit[TileNote::kLists];  ///< as they are read
  FlatList list[TileNote::kLists];    ///< likewise
  FeedList other[kGatheringWarps];    ///< of a visit after the first ones
  int32_t has_chunks[2];
  uint64_t note_full[kNotes];
  uint64_t note_free[kNotes];
  uint64_t tile_full[2];
  uint64_t tile_free[2];
  uint64_t chunk_full[Shape::kStages];
  uint64_t chunk_free[Shape::kStages];
};
/// With room to begin at a multiple of 1024.
template <class Shape>
constexpr int64_t kPipeBytes = sizeof(HopperPipe<Shape>) + 1024;

/// Blocks of a launch over `tiles`: so many for each multiprocessor at most.
inline unsigned pipe_blocks(int64_t tiles, int of_multiprocessor = 1) {
  int device = 0;
  int multiprocessors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return static_cast<unsigned>(std::min<int64_t>(tiles, of_multiprocessor * multiprocessors));
}

#if HYPERATTN_HAS_WGMMA

/// The shared memory of a block, from a multiple of 1024 on.
template <class Shared>
__device__ __forceinline__ Shared& aligned_shared(unsigned char* memory) {
  return *reinterpret_cast<Shared*>(memory + ((1024 - (shared_address(memory) & 1023)) & 1023));
}

/// The number of the thread's warp in the block, which the compiler knows to be the same for all of the warp.
__device__ __forceinline__ unsigned own_warp() {
  return __shfl_sync(0xffffffffU, threadIdx.x / 32, 0);
}

/// Barriers of stages, and of the two sides that tiles take turns with.
template <int Stages>
__device__ __forceinline__ void begin_barriers(uint64_t (&stage_full)[Stages], uint64_t (&stage_free)[Stages],
                                               uint64_t (&side_full)[2], uint64_t (&side_free)[2],
                                               int multiplying_warps, int warps_of_stage,
                                               int gathering_warps) {
  for (int i = 0; i < Stages; ++i) {
    begin_barrier(stage_full[i], 33 * warps_of_stage);  // copies of all threads, and what warps wrote
    begin_barrier(stage_free[i], multiplying_warps);
  }
  for (int i = 0; i < 2; ++i) {
    begin_barrier(side_full[i], 33 * gathering_warps);
    begin_barrier(side_free[i], multiplying_warps);
  }
}

template <class Shape>
__device__ __forceinline__ void begin_pipe(HopperPipe<Shape>& pipe) {
  if (threadIdx.x == 0) {
    begin_barriers(pipe.chunk_full, pipe.chunk_free, pipe.tile_full, pipe.tile_free, kHopperWarps<Shape>, 1,
                   kGatheringWarps);
    for (int i = 0; i < HopperPipe<Shape>::kNotes; ++i) {
      begin_barrier(pipe.note_full[i], 1);
      begin_barrier(pipe.note_free[i], kHopperWarps<Shape> + kGatheringWarps);
    }
  }
  __syncthreads();
}

/// A warp that multiplies is done with the tile of a turn.
template <class Shape>
__device__ __forceinline__ void release_tile(HopperPipe<Shape>& pipe, int turn) {
  __syncwarp();
  if (threadIdx.x % 32 != 0) return;
  arrive_at(pipe.tile_free[turn % 2]);
  arrive_at(pipe.note_free[turn % HopperPipe<Shape>::kNotes]);
}

/// What lies there will be read soon.
__device__ __forceinline__ void prefetch(const void* place) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(place));
}

/// A place in a ring, and the parity of the phase that it is in.
template <int Stages>
struct PipePlace {
  int stage = 0;
  int parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1;
  }
};

[[nodiscard]] __device__ __forceinline__ const int32_t* rows_of(const PlanArrays& plan,
                                                                const FlatOrder& order) {
  if (order.remote != nullptr) return order.remote;
  return order.rows == kNone ? nullptr : plan.integers + order.rows;
}

__device__ __forceinline__ void begin_list(FeedList& own, const PlanArrays& plan, const FlatVisit& visit,
                                           const FlatList& list, const FlatTile& tile, const FlatPass& pass) {
  own.order = rows_of(plan, list.order);
  own.first_row = list.source_row + (own.order == nullptr ? list.order.first : 0);
  own.weights = list.log_weight == kNone ? nullptr : plan.numbers + list.log_weight;
  own.uniform = list.uniform;
  own.is_synthetic = list.synthetic;
  own.excluded = plan.integers + visit.excluded_begin;
  own.excluded_count = static_cast<int32_t>(visit.excluded_end - visit.excluded_begin);
  own.seen_begin = 0;
  own.seen_end = INT32_MAX;
  int64_t begin = visit.begin;
  int64_t end = visit.end;
  if (pass.triangular != 0) {
    const int64_t last_row = tile.begin + tile.count - 1;
    begin = max(begin, first_visible(pass, tile.begin));
    end = min(end, last_visible(pass, last_row));
    own.seen_begin = static_cast<int32_t>(min(first_visible(pass, last_row), int64_t{INT32_MAX}));
    own.seen_end = static_cast<int32_t>(max(last_visible(pass, tile.begin), int64_t{0}));
  }
  own.begin = static_cast<int32_t>(begin);
  own.end = static_cast<int32_t>(max(end, int64_t{0}));
}

/// The warp that reads what the next tiles are, while those before them are gathered and multiplied: each
/// word of it is found by the one before it, and waits for memory.
template <class Shape>
class TileReader {
 public:
  __device__ TileReader(const PlanArrays& plan, HopperPipe<Shape>& pipe)
      : plan_(plan), pipe_(pipe), lane_(threadIdx.x % 32) {}

  /// Blocks take turns with tiles, each one place further on every time, so that each comes by all sizes of
  /// causal tiles, which repeat.
  __device__ void run(int64_t first_tile, int32_t tile_count) {
    const auto blocks = static_cast<int32_t>(gridDim.x);
    auto place = static_cast<int32_t>(blockIdx.x);
    for (int32_t turn = 0;; ++turn) {
      const int slot = turn % HopperPipe<Shape>::kNotes;
      await_phase(pipe_.note_free[slot], (turn / HopperPipe<Shape>::kNotes + 1) % 2);
      const int32_t index = turn * blocks + place;
      TileNote& note = pipe_.note[slot];
      if (lane_ == 0) note.is_end = index < tile_count ? 0 : 1;
      if (index < tile_count) read(note, pipe_.query_row[slot], plan_.tiles + first_tile + index);
      __syncwarp();
      if (lane_ == 0) arrive_at(pipe_.note_full[slot]);
      if (index >= tile_count) return;
      if (++place == blocks) place = 0;
    }
  }

 private:
  template <class U>
  __device__ void copy(U& target, const U* source) const {
    if (lane_ < kWords<U>)
      reinterpret_cast<uint64_t*>(&target)[lane_] = reinterpret_cast<const uint64_t*>(source)[lane_];
  }

  __device__ void read(TileNote& note, int64_t* rows, const FlatTile* tile) const {
    copy(note.tile, tile);
    __syncwarp();
    copy(note.pass, plan_.passes + note.tile.pass);
    const auto lists =
        static_cast<int>(min(note.tile.last_visit - note.tile.first_visit, int64_t{TileNote::kLists}));
    for (int v = 0; v < lists; ++v) copy(pipe_.visit[v], plan_.visits + note.tile.first_visit + v);
    __syncwarp();
    for (int v = 0; v < lists; ++v) copy(pipe_.list[v], plan_.lists + pipe_.visit[v].list);
    read_rows(note, rows);
    __syncwarp();
    for (int v = 0; v < lists; ++v) prefetch_ranks(pipe_.visit[v], pipe_.list[v]);
    if (static_cast<int>(lane_) < lists)
      begin_list(note.list[lane_], plan_, pipe_.visit[lane_], pipe_.list[lane_], note.tile, note.pass);
  }

  /// All of a thread's are asked for before one is waited for.
  __device__ void read_rows(const TileNote& note, int64_t* rows) const {
    const int32_t* order = note.tile.count > 0 ? rows_of(plan_, note.pass.queries) : nullptr;
    const auto first = static_cast<int32_t>(note.pass.queries.first);
    int32_t row[Shape::kTileRows / 32];
#pragma unroll
    for (int j = 0; j < Shape::kTileRows / 32; ++j) {
      const int32_t i = static_cast<int32_t>(lane_) + 32 * j;
      const int32_t position = note.tile.begin + (i < note.tile.count ? i : 0);
      row[j] = order != nullptr ? order[position] : first + position;
    }
#pragma unroll
    for (int j = 0; j < Shape::kTileRows / 32; ++j) {
      const int32_t i = static_cast<int32_t>(lane_) + 32 * j;
      rows[i] = i < note.tile.count ? note.pass.row_base + row[j] : -1;
    }
  }

  __device__ void prefetch_ranks(const FlatVisit& visit, const FlatList& list) const {
    const int32_t* order = rows_of(plan_, list.order);
    const int32_t rank = visit.begin + static_cast<int32_t>(lane_) * 32;
    if (order != nullptr && rank < visit.end) prefetch(order + rank);
    if (lane_ == 0 && visit.excluded_begin < visit.excluded_end)
      prefetch(plan_.integers + visit.excluded_begin);
  }

  const PlanArrays& plan_;
  HopperPipe<Shape>& pipe_;
  const unsigned lane_;
};

/// A warp that gathers. It has few registers: what it knows of its tile and list lies in shared memory. All
/// warps that gather walk alike; the first says what they found.
template <class T, class Shape>
class PipeFeed {
 public:
  __device__ PipeFeed(const PlanArrays& plan, const InputArrays& inputs, HopperPipe<Shape>& pipe,
                      unsigned warp)
      : plan_(plan),
        inputs_(inputs),
        pipe_(pipe),
        lane_(threadIdx.x % 32),
        warp_(warp),
        until_own_(static_cast<int>(warp)) {}

  /// `sources` are the matrices of query rows.
  __device__ void run(const void* const (&sources)[Shape::kMatrices]) {
    for (int turn = 0;; ++turn) {
      const int side = turn % 2;
      slot_ = turn % kNotes;
      await_phase(pipe_.note_full[slot_], turn / kNotes % 2);
      await_phase(pipe_.tile_free[side], (turn / 2 + 1) % 2);
      if (note().is_end != 0) return end(side);
      visit_ = -1;
      begin_ = 0;
      end_ = 0;
      find_next();
      copy_tile(side, sources);
      if (lane_ == 0 && warp_ == 0) pipe_.has_chunks[side] = there_is_next_ ? 1 : 0;
      __syncwarp();
      if (lane_ == 0) arrive_at(pipe_.tile_full[side]);
      for (;;) {
        for (; until_own_ > 0 && there_is_next_; --until_own_) pass_chunk();
        if (!there_is_next_) break;
        copy_chunk();
        until_own_ = kGatheringWarps - 1;
      }
      __syncwarp();
      if (lane_ == 0) arrive_at(pipe_.note_free[slot_]);
    }
  }

 private:
  static constexpr int kNotes = HopperPipe<Shape>::kNotes;
  static constexpr uint32_t kNoRow = UINT32_MAX;
  static constexpr uint32_t kPieces = 8;  ///< of 16 bytes in a row

  [[nodiscard]] __device__ const TileNote& note() const { return pipe_.note[slot_]; }

  __device__ void end(int side) {
    __syncwarp();
    arrive_at(pipe_.tile_full[side]);
    if (lane_ == 0) arrive_at(pipe_.tile_full[side]);
  }

  /// Warps take turns with four rows.
  __device__ void copy_tile(int side, const void* const (&sources)[Shape::kMatrices]) {
    const int64_t* rows = pipe_.query_row[slot_];
#pragma unroll 4
    for (unsigned first = 0; first < Shape::kTileRows; first += 4 * kGatheringWarps) {
      const unsigned i = first + 4 * warp_ + lane_ / 8;
      if (i >= Shape::kTileRows) continue;
      const int64_t row = rows[i];
      const int64_t offset = (row < 0 ? 0 : row) * kHopperColumns + lane_ % 8 * 8;
#pragma unroll
      for (int m = 0; m < Shape::kMatrices; ++m)
        copy_piece(pipe_.rows[side][m] + swizzled(i, lane_ % 8), static_cast<const T*>(sources[m]) + offset,
                   row >= 0);
    }
    arrive_with_copies(pipe_.tile_full[side]);
  }

  /// The first visits of a tile were read with it.
  __device__ void load_visit() {
    ++visit_;
    if (visit_ >= TileNote::kLists) {
      __syncwarp();
      if (lane_ == 0) {
        const FlatVisit& visit = plan_.visits[note().tile.first_visit + visit_];
        begin_list(pipe_.other[warp_], plan_, visit, plan_.lists[visit.list], note().tile, note().pass);
      }
      __syncwarp();
    }
    begin_ = own_list().begin;
    end_ = own_list().end;
  }
  [[nodiscard]] __device__ const FeedList& own_list() const {
    return visit_ < TileNote::kLists ? note().list[visit_] : pipe_.other[warp_];
  }
  [[nodiscard]] __device__ bool is_last_visit() const {
    return visit_ + 1 >= note().tile.last_visit - note().tile.first_visit;
  }

  /// The next chunk is ranks [begin_ − kChunkKeys, …) of the visit.
  __device__ void find_next() {
    while (begin_ >= end_ && !is_last_visit()) load_visit();
    there_is_next_ = begin_ < end_;
    begin_ += kChunkKeys;
  }

  __device__ void pass_chunk() {
    place_.advance();
    find_next();
  }

  /// Of the 32 keys that threads 8·g + i find, thread 8·g + i has key 4·i + g, so that it is these eight that
  /// copy their rows.
  [[nodiscard]] __device__ int own_slot(int half) const {
    return static_cast<int>(half * 32 + lane_ % 8 * 4 + lane_ / 8);
  }

  /// Where the row of a rank lies, in pieces, and the log-weight.
  __device__ void find_key(const FeedList& list, int32_t rank, uint32_t& place, float& bias) const {
    place = kNoRow;
    bias = minus_infinity();
    if (rank >= end_ || (list.excluded_count > 0 && is_among(list.excluded, 0, list.excluded_count, rank)))
      return;
    bias = list.weights != nullptr ? list.weights[rank] : list.uniform;
    const auto row = static_cast<uint32_t>(list.order != nullptr ? list.order[rank] : rank);
    place = (static_cast<uint32_t>(list.first_row) + row) * kPieces;
  }

  /// Starts the copies of the next chunk, and finds the one after it.
  __device__ void copy_chunk() {
    const int stage = place_.stage;
    const FeedList& list = own_list();
    const int32_t chunk_begin = begin_ - kChunkKeys;
    const bool is_masked = chunk_begin < list.seen_begin || min(begin_, end_) > list.seen_end;
    const bool is_synthetic = list.is_synthetic != 0;
    uint32_t place[2];
    float bias[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      find_key(list, chunk_begin + own_slot(half), place[half], bias[half]);
    const int free_parity = place_.parity ^ 1;
    pass_chunk();
    await_phase(pipe_.chunk_free[stage], free_parity);
    const void* keys = is_synthetic ? inputs_.synthetic_key : inputs_.key;
    const void* values = is_synthetic ? inputs_.synthetic_value : inputs_.value;
    HopperStage& target = pipe_.stage[stage];
    if (__all_sync(0xffffffffU, place[0] != kNoRow && place[1] != kNoRow))
      copy_rows<true>(target, place, keys, values);
    else
      copy_rows<false>(target, place, keys, values);
    arrive_with_copies(pipe_.chunk_full[stage]);
#pragma unroll
    for (int half = 0; half < 2; ++half) pipe_.bias[stage][own_slot(half)] = bias[half];
    const float first = __shfl_sync(0xffffffffU, bias[0], 0);
    const bool alike =
        __all_sync(0xffffffffU, bias[0] == first && bias[1] == first && first > minus_infinity());
    if (lane_ == 0) {
      ChunkNote& note = pipe_.chunk[stage];
      note.bias = alike && !is_masked && inputs_.scale > 0 ? first : __int_as_float(0x7fffffff);
      note.first_rank = chunk_begin;
      note.is_masked = is_masked ? 1 : 0;
      note.is_last = there_is_next_ ? 0 : 1;
    }
    __syncwarp();
    if (lane_ == 0) arrive_at(pipe_.chunk_full[stage]);
  }

  /// Rows of both matrices; `place` is where those of the thread's keys lie, which eight threads copy.
  template <bool AllThere>
  __device__ void copy_rows(HopperStage& stage, const uint32_t (&place)[2], const void* keys,
                            const void* values) {
    const uint32_t first = shared_address(stage.keys) + swizzled(lane_ / 8, lane_ % 8);
    const uint32_t second = (first ^ 64) + 4 * kRowBytes;  // four rows on, the swizzle is another
#pragma unroll
    for (int i = 0; i < kChunkKeys / 4; ++i) {
      const uint32_t row = __shfl_sync(0xffffffffU, place[i / 8], i % 8, 8);
      const bool there = AllThere || row != kNoRow;
      const uint32_t target = (i % 2 == 0 ? first : second) + i / 2 * 1024;
      const uint32_t piece = (there ? row : 0) + lane_ % 8;
      copy_piece(target, static_cast<const uint4*>(keys) + piece, there);
      copy_piece(target + offsetof(HopperStage, values), static_cast<const uint4*>(values) + piece, there);
    }
  }

  const PlanArrays& plan_;
  const InputArrays& inputs_;
  HopperPipe<Shape>& pipe_;
  const unsigned lane_;
  const unsigned warp_;  ///< of those that gather
  int until_own_;        ///< chunks before the warp's next
  int slot_ = 0;         ///< of the tile's note
  PipePlace<Shape::kStages> place_;
  int32_t visit_ = -1;  ///< of the tile
  int32_t begin_ = 0;
  int32_t end_ = 0;
  bool there_is_next_ = false;
};

/// The part of a warp that does not multiply: the first ones gather, the last reads.
template <class T, class Shape>
__device__ __forceinline__ void feed_pipe(const PlanArrays& plan, const InputArrays& inputs,
                                          HopperPipe<Shape>& pipe, int64_t first_tile, int64_t tile_count,
                                          const void* const (&sources)[Shape::kMatrices]) {
  const unsigned warp = own_warp() - kHopperWarps<Shape>;
  if (warp < kGatheringWarps)
    PipeFeed<T, Shape>(plan, inputs, pipe, warp).run(sources);
  else
    TileReader<Shape>(plan, pipe).run(first_tile, static_cast<int32_t>(tile_count));
}

/// Products to weighted scores, base 2; −∞ where the row does not see the key.
__device__ __forceinline__ void score_chunk(float (&x)[8][4], const float* chunk_bias, const ChunkNote& chunk,
                                            const TileNote& note, float scale) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 bias = *reinterpret_cast<const float2*>(chunk_bias + n * 8 + 2 * t);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      x[n][2 * h] = fmaf(x[n][2 * h], scale, bias.x);
      x[n][2 * h + 1] = fmaf(x[n][2 * h + 1], scale, bias.y);
    }
  }
  if (chunk.is_masked == 0) return;
  const OwnRows own = own_rows(note.tile, note.pass, static_cast<int>(own_warp()));
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    // Of the chunk's keys the row sees those from `first` to before `last`.
    const int64_t begin = own.first[h] - chunk.first_rank;
    const int64_t end = own.last[h] - chunk.first_rank;
    const int first = begin < 0 ? 0 : (begin < kChunkKeys ? static_cast<int>(begin) : kChunkKeys);
    const int last = end < 0 ? 0 : (end < kChunkKeys ? static_cast<int>(end) : kChunkKeys);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int slot = n * 8 + 2 * t + e;
        if (slot < first || slot >= last) x[n][2 * h + e] = minus_infinity();
      }
  }
}

__device__ __forceinline__ void clear_products(float (&x)[8][4]) {
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) x[c][e] = 0;
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

#endif

}  // namespace hyperattn::cuda
