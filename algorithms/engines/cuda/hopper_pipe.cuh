// How tiles of query rows and chunks of keys reach the matrix units of Hopper: in a block, some warps walk
// through the tiles of a launch and what they visit, and have rows gathered into shared memory by their
// ranks, while the others multiply what has arrived. Barriers in shared memory say what is full and what
// free, so the gathers of a tile are under way before the one ahead of it is finished. On an H100 (1980 MHz,
// bf16, 32 heads of 131072 rows) the forward kernel takes 1.8 ms for `hyper` in place of 3.1 where each
// thread gathers, too, and waits for its block, and 92 ms in place of 122 for 32768 keys that all rows see.
// The warps that gather are to be quick: where their state did not fit their registers (spilled words wait
// behind copies) `hyper` took 2.3 to 2.5 ms.
#pragma once

#include <cstddef>
#include <type_traits>

#include "algorithms/engines/cuda/row_tile.cuh"
#include "algorithms/engines/cuda/wgmma.cuh"

namespace hyperattn::cuda {

constexpr int kHopperColumns = 64;
constexpr int kChunkKeys = 64;
/// Warps that multiply a wide tile, each 16 of its rows.
constexpr int kHopperWarps = 8;
/// Two warps gather a chunk, each a half of its keys.
constexpr int kFeedWarps = 2;
constexpr int kFeedKeys = kChunkKeys / kFeedWarps;

/// How a kernel parts a block. Four warps gather, two of them a team; what a thread that gathers has fewer of
/// registers than the launch gives, those that multiply have more.
struct ForwardShape {
  static constexpr int kMatrices = 1;  ///< of query rows
  static constexpr int kPipes = 2;     ///< each with tiles of its own and eight warps that multiply
  static constexpr int kTeams = 1;     ///< of a pipe, which take turns with its chunks
  static constexpr int kStages =
      4;  ///< one is multiplied with queries, one with weights, two are on their way
  static constexpr bool kLooksAhead = true;  ///< reads what a tile is while the one before it is copied
  static constexpr int kMultiplierRegisters = 104;
  static constexpr int kFeedRegisters = 64;
};
/// For tiles of so many keys that what a tile is hardly matters: without reading ahead, which does not fit
/// 32, those that multiply have registers enough to be a tenth faster.
struct LongForwardShape : ForwardShape {
  static constexpr bool kLooksAhead = false;
  static constexpr int kMultiplierRegisters = 112;
  static constexpr int kFeedRegisters = 32;
};
/// Accumulators of two products beside the gradient leave room for one pipe.
struct QueryGradientShape {
  static constexpr int kMatrices = 2;
  static constexpr int kPipes = 1;
  static constexpr int kTeams = 2;
  static constexpr int kStages = 6;
  /// It was slower for it: 2.5 ms with 208 and 88 registers, 2.7 with these, 2.3 without.
  static constexpr bool kLooksAhead = false;
  static constexpr int kMultiplierRegisters = 224;
  static constexpr int kFeedRegisters = 56;
};
template <class Shape>
constexpr int kMultipliers = 32 * kHopperWarps* Shape::kPipes;
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
  /// Where the rows of the tile all see the keys of a half, and all with one weight, that; else NaN.
  float bias[kFeedWarps];
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

struct TileNote {
  FlatTile tile;
  FlatPass pass;
  int32_t has_chunks;
  int32_t is_end;  ///< there is no tile
};

/// What a warp that gathers has read of its next tile, in words of 8 bytes one after the other.
struct TileAhead {
  static constexpr unsigned kVisits = 2;
  FlatTile tile;
  FlatPass pass;
  FlatVisit visit[kVisits];  ///< those that there are of the first two, and their lists
  FlatList list[kVisits];
  int32_t row[kWideTileRows / kFeedWarps];  ///< of the head; −1: none
};
static_assert(sizeof(FlatTile) % 8 == 0 && sizeof(FlatPass) % 8 == 0 && sizeof(FlatVisit) % 8 == 0 &&
              sizeof(FlatList) % 8 == 0 && offsetof(TileNote, pass) == offsetof(TileAhead, pass));

/// Two tiles, each with matrices of rows (queries, gradients), and the chunks on their way.
template <class Shape>
struct alignas(1024) HopperPipe {
  unsigned char rows[2][Shape::kMatrices][2 * kTileBytes];
  HopperStage stage[Shape::kStages];
  float bias[Shape::kStages][kChunkKeys];
  ChunkNote chunk[Shape::kStages];
  TileNote tile[2];
  int64_t query_row[2][kWideTileRows];
  FeedList list[kFeedWarps * Shape::kTeams]
               [Shape::kLooksAhead ? TileAhead::kVisits : 1];  ///< which visits take turns with
  uint64_t chunk_full[Shape::kStages];
  uint64_t chunk_free[Shape::kStages];
  uint64_t tile_full[2];
  uint64_t tile_free[2];
  TileAhead ahead[Shape::kLooksAhead ? kFeedWarps * Shape::kTeams : 1];
};
/// With room to begin at a multiple of 1024.
template <class Shape>
constexpr int64_t kPipeBytes = Shape::kPipes * sizeof(HopperPipe<Shape>) + 1024;

/// Blocks of a launch over `tiles`: one for each multiprocessor at most.
inline unsigned pipe_blocks(int64_t tiles) {
  int device = 0;
  int multiprocessors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return static_cast<unsigned>(tiles < multiprocessors ? tiles : multiprocessors);
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
/// The pipe of a thread.
template <class Shape>
__device__ __forceinline__ unsigned own_pipe() {
  const unsigned warp = own_warp();
  constexpr unsigned kFirstFeed = kHopperWarps * Shape::kPipes;
  return warp < kFirstFeed ? warp / kHopperWarps : (warp - kFirstFeed) / (kFeedWarps * Shape::kTeams);
}

/// Barriers of stages, and of the two sides that tiles take turns with.
template <int Stages>
__device__ __forceinline__ void begin_barriers(uint64_t (&stage_full)[Stages], uint64_t (&stage_free)[Stages],
                                               uint64_t (&side_full)[2], uint64_t (&side_free)[2],
                                               int side_warps) {
  for (int i = 0; i < Stages; ++i) {
    begin_barrier(stage_full[i], 33 * kFeedWarps);  // copies of all threads, and what warps wrote
    begin_barrier(stage_free[i], kHopperWarps);
  }
  for (int i = 0; i < 2; ++i) {
    begin_barrier(side_full[i], 33 * side_warps);
    begin_barrier(side_free[i], kHopperWarps);
  }
}

template <class Shape>
__device__ __forceinline__ void begin_pipes(HopperPipe<Shape>* pipes) {
  if (threadIdx.x < Shape::kPipes) {
    HopperPipe<Shape>& pipe = pipes[threadIdx.x];
    begin_barriers(pipe.chunk_full, pipe.chunk_free, pipe.tile_full, pipe.tile_free,
                   kFeedWarps * Shape::kTeams);
  }
  __syncthreads();
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

/// A warp that gathers. It has few registers: what it knows of its tile and list lies in shared memory. Both
/// warps of a pipe walk alike; the first says what they found.
template <class T, class Shape>
class PipeFeed {
 public:
  __device__ PipeFeed(const PlanArrays& plan, const InputArrays& inputs, HopperPipe<Shape>& pipe)
      : plan_(plan),
        inputs_(inputs),
        pipe_(pipe),
        lane_(threadIdx.x % 32),
        warp_(own_warp() % kWarps),
        half_(warp_ % kFeedWarps) {}

  /// `sources` are the matrices of query rows. An odd number of pipes take turns, so that each comes by all
  /// sizes of causal tiles, which repeat.
  __device__ void run(int64_t first_tile, int32_t tile_count,
                      const void* const (&sources)[Shape::kMatrices]) {
    const int32_t pipes = (static_cast<int32_t>(gridDim.x) * Shape::kPipes - 1) / 2 * 2 + 1;
    auto index = static_cast<int32_t>(own_pipe<Shape>() * gridDim.x + blockIdx.x);
    if (index >= pipes) index = tile_count;
    if constexpr (Shape::kLooksAhead) begin_ahead(first_tile, index, tile_count);
    for (int turn = 0;; ++turn, index += pipes) {
      side_ = turn % 2;
      await_phase(pipe_.tile_free[side_], (turn / 2 + 1) % 2);
      if (index >= tile_count) return end();
      if constexpr (Shape::kLooksAhead) {
        begin_tile();
        find_next();
        copy_tile(sources);
        begin_ahead(first_tile, index + pipes, tile_count);
      } else {
        const FlatTile* tile = plan_.tiles + first_tile + index;
        if (lane_ == 0 && index + pipes < tile_count) prefetch(tile + pipes);
        begin_tile(*tile);
        copy_tile(sources);
        find_next();
      }
      if (lane_ == 0 && warp_ == 0) pipe_.tile[side_].has_chunks = there_is_next_ ? 1 : 0;
      __syncwarp();
      if (lane_ == 0) arrive_at(pipe_.tile_full[side_]);
      while (there_is_next_)
        if (is_own_turn())
          copy_chunk();
        else
          pass_chunk();
    }
  }

 private:
  static constexpr unsigned kWarps = kFeedWarps * Shape::kTeams;
  static constexpr uint32_t kNoRow = UINT32_MAX;
  static constexpr uint32_t kPieces = 8;  ///< of 16 bytes in a row

  __device__ void end() {
    if (lane_ == 0) pipe_.tile[side_].is_end = 1;
    __syncwarp();
    arrive_at(pipe_.tile_full[side_]);
    if (lane_ == 0) arrive_at(pipe_.tile_full[side_]);
  }

  /// Words of a T.
  template <class U>
  static constexpr unsigned kWords = sizeof(U) / 8;
  static constexpr unsigned kRows = kWideTileRows / kWarps;  ///< of a tile, for each warp
  static constexpr int kAheadSteps = 4;
  static constexpr int kLists = Shape::kLooksAhead ? TileAhead::kVisits : 1;

  /// The next tile is read in steps, each of what the one before it found: the tile, its pass and visits,
  /// their lists, its rows. A step keeps the words that its predecessor asked for, one of each thread, and
  /// asks for others, which arrive while chunks of the tile ahead are copied.
  __device__ void begin_ahead(int64_t first_tile, int32_t index, int32_t tile_count) {
    ahead_step_ = index < tile_count ? 0 : kAheadSteps;
    if (index < tile_count && lane_ < kWords<FlatTile>)
      ask(reinterpret_cast<const int32_t*>(plan_.tiles + first_tile + index) + 2 * lane_);
  }
  __device__ void ask(const int32_t* word) {
    asked_[0] = word[0];
    asked_[1] = word[1];
  }
  /// The words from `begin` on were asked for.
  __device__ void keep(size_t begin, unsigned words) {
    if (lane_ < words)
      *reinterpret_cast<int2*>(reinterpret_cast<unsigned char*>(&pipe_.ahead[warp_]) + begin + 8 * lane_) =
          int2{asked_[0], asked_[1]};
    __syncwarp();
  }

  __device__ void look_ahead() {
    if (ahead_step_ == kAheadSteps) return;
    const TileAhead& ahead = pipe_.ahead[warp_];
    const int32_t* word = nullptr;
    if (ahead_step_ == 0) {
      keep(0, kWords<FlatTile>);
      const unsigned visits = ahead_visits();
      if (lane_ < kWords<FlatPass>)
        word = reinterpret_cast<const int32_t*>(plan_.passes + ahead.tile.pass) + 2 * lane_;
      else if (lane_ < kWords<FlatPass> + visits * kWords<FlatVisit>)
        word = reinterpret_cast<const int32_t*>(plan_.visits + ahead.tile.first_visit) +
               2 * (lane_ - kWords<FlatPass>);
    } else if (ahead_step_ == 1) {
      keep(offsetof(TileAhead, pass), kWords<FlatPass> + ahead_visits() * kWords<FlatVisit>);
      const unsigned visit = lane_ / kWords<FlatList>;
      if (visit < ahead_visits())
        word = reinterpret_cast<const int32_t*>(plan_.lists + ahead.visit[visit].list) +
               2 * (lane_ % kWords<FlatList>);
    } else if (ahead_step_ == 2) {
      keep(offsetof(TileAhead, list), ahead_visits() * kWords<FlatList>);
      word = ask_rows(ahead);
    } else {
      keep(offsetof(TileAhead, row), kRows / 2);
    }
    if (word != nullptr) ask(word);
    ++ahead_step_;
  }

  [[nodiscard]] __device__ unsigned ahead_visits() const {
    const FlatTile& tile = pipe_.ahead[warp_].tile;
    return static_cast<unsigned>(min(tile.last_visit - tile.first_visit, int64_t{TileAhead::kVisits}));
  }
  [[nodiscard]] __device__ const int32_t* rows_of(const FlatOrder& order) const {
    if (order.remote != nullptr) return order.remote;
    return order.rows == kNone ? nullptr : plan_.integers + order.rows;
  }

  /// Of the warp's rows each thread has two. What ranks of the visits are will be read next.
  __device__ const int32_t* ask_rows(const TileAhead& ahead) {
    const unsigned visit = lane_ / 16;
    if (visit < ahead_visits()) {
      const FlatVisit& next = ahead.visit[visit];
      const int32_t* order = rows_of(ahead.list[visit].order);
      const int32_t rank = next.begin + static_cast<int32_t>(lane_ % 16) * 32;
      if (order != nullptr && rank < next.end) prefetch(order + rank);
      if (lane_ % 16 == 0 && next.excluded_begin < next.excluded_end)
        prefetch(plan_.integers + next.excluded_begin);
    }
    const auto first = static_cast<int32_t>(warp_ * kRows + 2 * lane_);
    const int32_t* order = rows_of(ahead.pass.queries);
    const int32_t position = ahead.tile.begin + first;
    const int32_t count = 2 * lane_ < kRows ? ahead.tile.count - first : 0;
    if (order != nullptr && count > 1) return order + position;
    const int32_t row = order == nullptr ? static_cast<int32_t>(ahead.pass.queries.first) + position : 0;
    asked_[0] = count > 0 ? (order == nullptr ? row : order[position]) : -1;
    asked_[1] = count > 1 ? row + 1 : -1;
    return nullptr;
  }

  /// All warps write the same.
  __device__ void begin_tile(const FlatTile& tile) {
    TileNote& note = pipe_.tile[side_];
    if (lane_ == 0) {
      note.tile = tile;
      note.pass = plan_.passes[tile.pass];
      note.is_end = 0;
    }
    __syncwarp();
    begin_visits(note.tile);
  }
  __device__ void begin_visits(const FlatTile& tile) {
    visit_ = -1;
    visits_ = static_cast<int32_t>(tile.last_visit - tile.first_visit);
    begin_ = 0;
    end_ = 0;
  }
  /// The tile that was read ahead.
  __device__ void begin_tile() {
    while (ahead_step_ < kAheadSteps) look_ahead();
    const TileAhead& ahead = pipe_.ahead[warp_];
    TileNote& note = pipe_.tile[side_];
    if (lane_ < kWords<FlatTile> + kWords<FlatPass>)
      reinterpret_cast<uint64_t*>(&note)[lane_] = reinterpret_cast<const uint64_t*>(&ahead)[lane_];
    if (lane_ == 0) note.is_end = 0;
    if (lane_ < ahead_visits())
      begin_list(pipe_.list[warp_][lane_], ahead.visit[lane_], ahead.list[lane_], ahead.tile, ahead.pass);
    __syncwarp();
    begin_visits(ahead.tile);
  }

  __device__ void copy_tile(const void* const (&sources)[Shape::kMatrices]) {
    const unsigned first = warp_ * kRows;
    int64_t* rows = pipe_.query_row[side_] + first;
    const TileNote& note = pipe_.tile[side_];
    const TileAhead& ahead = pipe_.ahead[Shape::kLooksAhead ? warp_ : 0];
    for (unsigned i = lane_; i < kRows; i += 32)
      if constexpr (Shape::kLooksAhead)
        rows[i] = ahead.row[i] < 0 ? -1 : ahead.pass.row_base + ahead.row[i];
      else
        rows[i] = query_row_of(note.tile, note.pass, plan_.integers, static_cast<int>(first + i));
    __syncwarp();
#pragma unroll 4
    for (unsigned i = 0; i < kRows / 4; ++i) {
      const int64_t row = rows[4 * i + lane_ / 8];
      const int64_t offset = (row < 0 ? 0 : row) * kHopperColumns + lane_ % 8 * 8;
#pragma unroll
      for (int m = 0; m < Shape::kMatrices; ++m)
        copy_piece(pipe_.rows[side_][m] + swizzled(first + 4 * i + lane_ / 8, lane_ % 8),
                   static_cast<const T*>(sources[m]) + offset, row >= 0);
    }
    arrive_with_copies(pipe_.tile_full[side_]);
  }

  __device__ void begin_list(FeedList& own, const FlatVisit& visit, const FlatList& list,
                             const FlatTile& tile, const FlatPass& pass) {
    own.order = rows_of(list.order);
    own.first_row = list.source_row + (own.order == nullptr ? list.order.first : 0);
    own.weights = list.log_weight == kNone ? nullptr : plan_.numbers + list.log_weight;
    own.uniform = list.uniform;
    own.is_synthetic = list.synthetic;
    own.excluded = plan_.integers + visit.excluded_begin;
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

  /// The first visits of a tile that was read ahead were read with it.
  __device__ void load_visit() {
    ++visit_;
    if (!Shape::kLooksAhead || visit_ >= static_cast<int32_t>(TileAhead::kVisits)) {
      __syncwarp();
      if (lane_ == 0) {
        const TileNote& note = pipe_.tile[side_];
        const FlatVisit visit = plan_.visits[note.tile.first_visit + visit_];
        begin_list(pipe_.list[warp_][visit_ % kLists], visit, plan_.lists[visit.list], note.tile, note.pass);
      }
      __syncwarp();
    }
    begin_ = own_list().begin;
    end_ = own_list().end;
  }
  [[nodiscard]] __device__ const FeedList& own_list() const {
    return pipe_.list[warp_][visit_ % kLists];
  }

  /// One key of the next chunk for each thread: of the keys that threads 8·g + i find, thread 8·g + i has key
  /// 4·i + g, so that it is these eight that copy their rows. What is read of it is not used before
  /// copy_chunk, so that nothing waits here.
  __device__ void find_next() {
    while (begin_ >= end_ && visit_ + 1 < visits_) load_visit();
    there_is_next_ = begin_ < end_;
    begin_ += kChunkKeys;
    if (!there_is_next_ || !is_own_turn()) return;
    const FeedList& list = own_list();
    entry_ = static_cast<int32_t>(begin_ - kChunkKeys + own_slot());
    bias_ = minus_infinity();
    if (entry_ < end_ &&
        (list.excluded_count == 0 || !is_among(list.excluded, 0, list.excluded_count, entry_))) {
      bias_ = list.weights != nullptr ? list.weights[entry_] : list.uniform;
      if (list.order != nullptr) entry_ = list.order[entry_];
    } else {
      entry_ = -1;
    }
  }

  [[nodiscard]] __device__ bool is_own_turn() const {
    return static_cast<unsigned>(place_.stage) % Shape::kTeams == warp_ / kFeedWarps;
  }
  __device__ void pass_chunk() {
    place_.advance();
    find_next();
  }

  [[nodiscard]] __device__ unsigned own_slot() const {
    return half_ * kFeedKeys + lane_ % 8 * 4 + lane_ / 8;
  }

  /// Starts the copies of the next chunk, and finds the one after it.
  __device__ void copy_chunk() {
    const int stage = place_.stage;
    const int free_parity = place_.parity ^ 1;
    const FeedList& list = own_list();
    const int32_t chunk_begin = begin_ - kChunkKeys;
    const bool is_masked = chunk_begin < list.seen_begin || min(begin_, end_) > list.seen_end;
    const bool is_synthetic = list.is_synthetic != 0;
    const float bias = bias_;
    const uint32_t place =
        entry_ < 0 ? kNoRow
                   : (static_cast<uint32_t>(list.first_row) + static_cast<uint32_t>(entry_)) * kPieces;
    uint32_t places[kFeedKeys / 4];
#pragma unroll
    for (int i = 0; i < kFeedKeys / 4; ++i) places[i] = __shfl_sync(0xffffffffU, place, i, 8);
    const float first_bias = __shfl_sync(0xffffffffU, bias, 0);
    const bool alike = __all_sync(0xffffffffU, bias == first_bias && first_bias > minus_infinity());
    place_.advance();
    find_next();
    await_phase(pipe_.chunk_free[stage], free_parity);
    const unsigned own = half_ * kFeedKeys * kRowBytes + swizzled(lane_ / 8, lane_ % 8);
    copy_half(shared_address(pipe_.stage[stage].keys) + own,
              is_synthetic ? inputs_.synthetic_key : inputs_.key, places);
    copy_half(shared_address(pipe_.stage[stage].values) + own,
              is_synthetic ? inputs_.synthetic_value : inputs_.value, places);
    arrive_with_copies(pipe_.chunk_full[stage]);
    ChunkNote& note = pipe_.chunk[stage];
    pipe_.bias[stage][own_slot()] = bias;
    if (lane_ == 0) {
      note.bias[half_] = alike && !is_masked && inputs_.scale > 0 ? first_bias : __int_as_float(0x7fffffff);
      if (half_ == 0) {
        note.first_rank = chunk_begin;
        note.is_masked = is_masked ? 1 : 0;
        note.is_last = there_is_next_ ? 0 : 1;
      }
    }
    __syncwarp();
    if (lane_ == 0) arrive_at(pipe_.chunk_full[stage]);
    if constexpr (Shape::kLooksAhead) look_ahead();
  }

  /// The rows of one matrix; `target` is the thread's piece of the first of its rows.
  __device__ void copy_half(uint32_t target, const void* matrix, const uint32_t (&places)[kFeedKeys / 4]) {
    const uint4* source = static_cast<const uint4*>(matrix) + lane_ % 8;
    const uint32_t second = (target ^ 64) + 4 * kRowBytes;  // four rows on, the swizzle is another
#pragma unroll
    for (int i = 0; i < kFeedKeys / 4; ++i) {
      const bool there = places[i] != kNoRow;
      copy_piece((i % 2 == 0 ? target : second) + i / 2 * 1024, source + (there ? places[i] : 0), there);
    }
  }

  const PlanArrays& plan_;
  const InputArrays& inputs_;
  HopperPipe<Shape>& pipe_;
  const unsigned lane_;
  const unsigned warp_;  ///< of those of the pipe
  const unsigned half_;
  int side_ = 0;
  PipePlace<Shape::kStages> place_;
  int ahead_step_ = 0;
  int32_t asked_[2] = {0, 0};  ///< a word of the next tile
  int32_t visit_ = -1;         ///< of the tile
  int32_t visits_ = 0;
  int32_t begin_ = 0;
  int32_t end_ = 0;
  bool there_is_next_ = false;
  int32_t entry_ = -1;  ///< the thread's key in its order; −1: none
  float bias_ = 0;
};

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
  const OwnRows own = own_rows(note.tile, note.pass, static_cast<int>(own_warp() % kHopperWarps));
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
