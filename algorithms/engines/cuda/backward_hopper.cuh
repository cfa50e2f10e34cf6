// Gradients of one phase on Hopper's matrix units. Of queries: by wide tiles of query rows, which come
// through the pipe of the forward pass with the rows of the upstream gradient. Of keys and values: by blocks
// of at most 128 ranks, whose rows come chunk by chunk through a pipe of the same kind. On an H100 (1980 MHz,
// bf16, 32 heads of 131072 rows) these kernels take 2.6 and 4.0 ms for `hyper` in place of 4.3 and 9.7 where
// each thread gathers, too, and blocks have 64 ranks; 2.3 and 3.2 where gradients are written in bf16 and
// nothing is added to what memory has.
#pragma once

#include "algorithms/engines/cuda/backward.cuh"
#include "algorithms/engines/cuda/forward_hopper.cuh"

namespace hyperattn::cuda {

/// As QueryGradientShape, with four accumulators.
struct KeyGradientShape {
  static constexpr int kTileRows = kWideTileRows;
  static constexpr int kFeedWarps = 2;  ///< that gather a chunk, each a half of its rows
  static constexpr int kTeams = 2;      ///< of them, which take turns with chunks
  static constexpr int kStages = 6;
  static constexpr int kMultiplierRegisters = 224;
  static constexpr int kFeedRegisters = 56;
};
constexpr int kRowChunk = 64;

struct HopperRows {
  unsigned char queries[kTileBytes];
  unsigned char upstream[kTileBytes];
};

struct JobNote {
  KeyJob job;
  int32_t has_chunks;
  int32_t is_end;  ///< there is no job
};

struct RowChunkNote {
  int32_t is_masked;  ///< not all rows see all keys
  int32_t is_last;    ///< of the job
};

/// What a warp that gathers reads of its job.
struct FeedJob {
  FlatPass pass;
  KeyItem item;
};

/// Two jobs, and chunks of 64 query rows on their way with what is known of each.
struct alignas(1024) KeyPipe {
  static constexpr int kStages = KeyGradientShape::kStages;
  unsigned char keys[2][2 * kTileBytes];
  unsigned char values[2][2 * kTileBytes];
  HopperRows stage[kStages];
  float lse[kStages][kRowChunk];  ///< log₂ of the denominators; ∞: a row without gradient
  float delta[kStages][kRowChunk];
  int32_t first[kStages][kRowChunk];  ///< visible ranks, of masked chunks
  int32_t last[kStages][kRowChunk];
  float key_bias[kStages][kWideTileRows];  ///< of the job's ranks; −∞: these rows do not visit them
  RowChunkNote chunk[kStages];
  JobNote job[2];
  int64_t key_row[2][kWideTileRows];
  FeedJob feed[KeyGradientShape::kFeedWarps * KeyGradientShape::kTeams];
  uint64_t chunk_full[kStages];
  uint64_t chunk_free[kStages];
  uint64_t job_full[2];
  uint64_t job_free[2];
};
constexpr int64_t kKeyPipeBytes = sizeof(KeyPipe) + 1024;

#if HYPERATTN_HAS_WGMMA

/// 2^(x − this) are the weights of a row; ∞ for a row without gradient.
__device__ __forceinline__ float lse_of(float maximum, float inverse) {
  return inverse > 0 ? maximum - log2f(inverse) : -minus_infinity();
}

/// A warp that gathers the rows that visit a job's ranks, as PipeFeed does keys.
template <class T>
class RowFeed {
 public:
  __device__ RowFeed(const KeyGradientArguments& arguments, KeyPipe& pipe)
      : arguments_(arguments),
        pipe_(pipe),
        lane_(threadIdx.x % 32),
        warp_(own_warp() % kWarps),
        half_(warp_ % kFeedWarps) {}

  __device__ void run() {
    const int32_t pipes = (static_cast<int32_t>(gridDim.x) - 1) / 2 * 2 + 1;
    const auto jobs = static_cast<int32_t>(arguments_.job_count);
    int32_t index = static_cast<int32_t>(blockIdx.x) < pipes ? static_cast<int32_t>(blockIdx.x) : jobs;
    for (int turn = 0;; ++turn, index += pipes) {
      side_ = turn % 2;
      await_phase(pipe_.job_free[side_], (turn / 2 + 1) % 2);
      JobNote& note = pipe_.job[side_];
      if (lane_ == 0) note.is_end = index < jobs ? 0 : 1;
      if (index >= jobs) break;
      if (lane_ == 0) {
        note.job = arguments_.jobs[index];
        pipe_.feed[warp_].pass = arguments_.plan.passes[note.job.pass];
      }
      __syncwarp();
      copy_keys();
      next_item_ = arguments_.items + note.job.first_item;
      items_left_ = static_cast<int32_t>(note.job.last_item - note.job.first_item);
      begin_ = 0;
      end_ = 0;
      find_next();
      if (lane_ == 0 && warp_ == 0) note.has_chunks = there_is_next_ ? 1 : 0;
      __syncwarp();
      if (lane_ == 0) arrive_at(pipe_.job_full[side_]);
      while (there_is_next_)
        if (is_own_turn())
          copy_chunk();
        else
          pass_chunk();
    }
    __syncwarp();
    arrive_at(pipe_.job_full[side_]);
    if (lane_ == 0) arrive_at(pipe_.job_full[side_]);
  }

 private:
  static constexpr unsigned kFeedWarps = KeyGradientShape::kFeedWarps;
  static constexpr unsigned kWarps = kFeedWarps * KeyGradientShape::kTeams;
  static constexpr unsigned kWarpRows = kRowChunk / kFeedWarps;
  static constexpr uint32_t kNoRow = UINT32_MAX;
  static constexpr uint32_t kPieces = 8;  ///< of 16 bytes in a row

  /// Each warp a quarter of the keys. Of rows that threads 8·g + i find, thread 8·g + i has row 4·i + g.
  __device__ void copy_keys() {
    const KeyJob& job = pipe_.job[side_].job;
    const PlanArrays& plan = arguments_.plan;
    const FlatList& list = plan.lists[job.list];
    const unsigned slot = warp_ * 32 + slot_in_part();
    int64_t row = -1;
    if (slot < job.count)
      row = list.source_row + row_of(list.order, job.rank + static_cast<int32_t>(slot), plan.integers);
    pipe_.key_row[side_][slot] = row;
    spread(row < 0 ? kNoRow : static_cast<uint32_t>(row) * kPieces);
    const InputArrays& inputs = arguments_.inputs;
    const unsigned own = warp_ * 32 * kRowBytes + swizzled(lane_ / 8, lane_ % 8);
    copy_part(shared_address(pipe_.keys[side_]) + own, list.synthetic ? inputs.synthetic_key : inputs.key);
    copy_part(shared_address(pipe_.values[side_]) + own,
              list.synthetic ? inputs.synthetic_value : inputs.value);
    arrive_with_copies(pipe_.job_full[side_]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned rank = half_ * 64 + i * 32 + lane_;
      weight_[i] = rank < job.count
                       ? weights_of(list, job.rank + static_cast<int32_t>(rank), plan.numbers).bias
                       : minus_infinity();
    }
  }

  __device__ void load_item() {
    FeedJob& feed = pipe_.feed[warp_];
    const KeyJob& job = pipe_.job[side_].job;
    __syncwarp();
    if (lane_ == 0) {
      KeyItem item = *next_item_;
      narrow(feed.pass, job, item.begin, item.end);
      feed.item = item;
    }
    __syncwarp();
    ++next_item_;
    --items_left_;
    const KeyItem& item = feed.item;
    begin_ = static_cast<int32_t>(item.begin);
    end_ = static_cast<int32_t>(item.end);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto rank = static_cast<int32_t>(job.rank + half_ * 64 + i * 32 + lane_);
      const bool seen = rank >= item.first_rank && rank < item.last_rank &&
                        !is_among(arguments_.plan.integers, item.excluded_begin, item.excluded_end, rank);
      bias_[i] = seen ? weight_[i] : minus_infinity();
    }
  }

  [[nodiscard]] __device__ bool is_own_turn() const {
    return static_cast<unsigned>(place_.stage) % KeyGradientShape::kTeams == warp_ / kFeedWarps;
  }
  [[nodiscard]] __device__ unsigned slot_in_part() const {
    return lane_ % 8 * 4 + lane_ / 8;
  }
  __device__ void pass_chunk() {
    place_.advance();
    find_next();
  }

  /// One row of the next chunk for each thread.
  __device__ void find_next() {
    while (begin_ >= end_ && items_left_ > 0) load_item();
    there_is_next_ = begin_ < end_;
    begin_ += kRowChunk;
    if (!there_is_next_ || !is_own_turn()) return;
    const FlatPass& pass = pipe_.feed[warp_].pass;
    const auto position = static_cast<int32_t>(begin_ - kRowChunk + half_ * kWarpRows + slot_in_part());
    place_of_row_ = kNoRow;
    maximum_ = 0;
    inverse_ = 0;
    delta_ = 0;
    if (position >= end_) return;
    const int64_t row = pass.row_base + row_of(pass.queries, position, arguments_.plan.integers);
    place_of_row_ = static_cast<uint32_t>(row) * kPieces;
    maximum_ = arguments_.rows.maximum[row];
    inverse_ = arguments_.rows.inverse[row];
    delta_ = arguments_.rows.delta[row];
  }

  /// Starts the copies of the next chunk, and finds the one after it.
  __device__ void copy_chunk() {
    const int stage = place_.stage;
    const FlatPass& pass = pipe_.feed[warp_].pass;
    const int32_t chunk_begin = begin_ - kRowChunk;
    const bool is_masked = !sees_all(pass, pipe_.job[side_].job, chunk_begin, min(begin_, end_));
    spread(place_of_row_);
    await_phase(pipe_.chunk_free[stage], place_.parity ^ 1);
    const unsigned own = half_ * kWarpRows * kRowBytes + swizzled(lane_ / 8, lane_ % 8);
    copy_part(shared_address(pipe_.stage[stage].queries) + own, arguments_.inputs.query);
    copy_part(shared_address(pipe_.stage[stage].upstream) + own, arguments_.rows.upstream);
    arrive_with_copies(pipe_.chunk_full[stage]);
    const unsigned slot = half_ * kWarpRows + slot_in_part();
    pipe_.lse[stage][slot] = lse_of(maximum_, inverse_);
    pipe_.delta[stage][slot] = delta_;
    if (is_masked) {
      const auto position = static_cast<int64_t>(chunk_begin) + slot;
      pipe_.first[stage][slot] = as_rank(first_visible(pass, position));
      pipe_.last[stage][slot] = as_rank(last_visible(pass, position));
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) pipe_.key_bias[stage][half_ * 64 + i * 32 + lane_] = bias_[i];
    place_.advance();
    find_next();
    if (lane_ == 0 && half_ == 0) {
      pipe_.chunk[stage].is_masked = is_masked ? 1 : 0;
      pipe_.chunk[stage].is_last = there_is_next_ ? 0 : 1;
    }
    __syncwarp();
    if (lane_ == 0) arrive_at(pipe_.chunk_full[stage]);
  }

  /// Tells the eight threads that copy a row where it is.
  __device__ void spread(uint32_t place) {
#pragma unroll
    for (int i = 0; i < 8; ++i) places_[i] = __shfl_sync(0xffffffffU, place, i, 8);
  }
  /// 32 rows of one matrix; `target` is the thread's piece of the first of its rows.
  __device__ void copy_part(uint32_t target, const void* matrix) {
    const uint4* source = static_cast<const uint4*>(matrix) + lane_ % 8;
    const uint32_t second = (target ^ 64) + 4 * kRowBytes;  // four rows on, the swizzle is another
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool there = places_[i] != kNoRow;
      copy_piece((i % 2 == 0 ? target : second) + i / 2 * 1024, source + (there ? places_[i] : 0), there);
    }
  }

  const KeyGradientArguments& arguments_;
  KeyPipe& pipe_;
  const unsigned lane_;
  const unsigned warp_;
  const unsigned half_;
  int side_ = 0;
  PipePlace<KeyGradientShape::kStages> place_;
  const KeyItem* next_item_ = nullptr;
  int32_t items_left_ = 0;
  int32_t begin_ = 0;
  int32_t end_ = 0;
  bool there_is_next_ = false;
  float weight_[2];  ///< of two ranks of the job
  float bias_[2];    ///< the same for the rows of the item
  uint32_t places_[8];
  uint32_t place_of_row_ = kNoRow;  ///< in pieces, of the thread's row
  float maximum_ = 0;
  float inverse_ = 0;
  float delta_ = 0;
};

/// Adds to (or writes) the 64 columns of one of the two rows of a thread, of which `width` are there.
__device__ __forceinline__ void store_gradient(float* row, int width, const float (&sum)[8][4], int h,
                                               float factor, bool add) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  if (width == kHopperColumns) {
    float2 before[8] = {};
#pragma unroll
    for (int c = 0; c < 8; ++c)
      if (add) before[c] = *reinterpret_cast<const float2*>(row + c * 8 + 2 * t);
#pragma unroll
    for (int c = 0; c < 8; ++c)
      *reinterpret_cast<float2*>(row + c * 8 + 2 * t) = {fmaf(factor, sum[c][2 * h], before[c].x),
                                                         fmaf(factor, sum[c][2 * h + 1], before[c].y)};
    return;
  }
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = c * 8 + 2 * t + e;
      if (column < width) row[column] = fmaf(factor, sum[c][2 * h + e], add ? row[column] : 0);
    }
}

/// Row `row` of a matrix in some type: what `before` has of it (null: nothing) and the thread's columns.
__device__ __forceinline__ void finish_gradient(void* rows, Precision type, int width, int64_t row,
                                                float (&sum)[8][4], int h, float factor, const float* before,
                                                bool there) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = c * 8 + 2 * t + e;
      const float known = before != nullptr && column < width ? before[row * width + column] : 0;
      sum[c][2 * h + e] = fmaf(factor, sum[c][2 * h + e], known);
    }
  store_row(rows, type, row, width, sum, h, 1, there);
}

template <class T>
__device__ __forceinline__ void multiply_query_gradient(const QueryGradientArguments& arguments,
                                                        HopperPipe<QueryGradientShape>& pipe) {
  const int warp = static_cast<int>(own_warp());
  const bool signals = threadIdx.x % 32 == 0;
  PipePlace<QueryGradientShape::kStages> place;
  float x[8][4] = {};
  float along[8][4] = {};
  float sum[8][4];
  for (int turn = 0;; ++turn) {
    const int side = turn % 2;
    const int slot = turn % HopperPipe<QueryGradientShape>::kNotes;
    await_phase(pipe.tile_full[side], turn / 2 % 2);
    const TileNote& note = pipe.note[slot];
    if (note.is_end != 0) return;
    const OwnWeights known =
        own_weights(arguments.rows, pipe.query_row[slot], own_rows(note.tile, note.pass, warp));
    const float lse[2] = {lse_of(known.maximum[0], known.inverse[0]),
                          lse_of(known.maximum[1], known.inverse[1])};
    clear_products(sum);
    if (pipe.has_chunks[side] != 0) {
      const uint64_t queries = descriptor_of(pipe.rows[side][0] + warp / 4 * kTileBytes);
      const uint64_t upstream = descriptor_of(pipe.rows[side][1] + warp / 4 * kTileBytes);
      const auto start = [&] {
        multiply_tiles<T>(x, queries, descriptor_of(pipe.stage[place.stage].keys));
        multiply_tiles<T>(along, upstream, descriptor_of(pipe.stage[place.stage].values));
      };
      await_phase(pipe.chunk_full[place.stage], place.parity);
      show_to_products();
      begin_products();
      start();
      await_products(x, along);
      uint32_t weights[4][4];
      for (;;) {
        const int stage = place.stage;
        const ChunkNote chunk = pipe.chunk[stage];
        float scale = arguments.inputs.scale;
        float bias = chunk.bias;
        if (isnan(bias)) {
          score_chunk(x, pipe.bias[stage], chunk, note, scale);
          scale = 1;
          bias = 0;
        }
        const float shift[2] = {bias - lse[0], bias - lse[1]};
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            x[n][e] =
                power_of_two<T>(fmaf(x[n][e], scale, shift[e / 2])) * (along[n][e] - known.delta[e / 2]);
        pack_weights<T>(weights, x);
        if (chunk.is_last != 0) break;
        place.advance();
        await_phase(pipe.chunk_full[place.stage], place.parity);
        show_to_products();
        begin_products();
        multiply_weights_tile<T>(sum, weights, descriptor_of(pipe.stage[stage].keys));
        start();
        await_products(x, along, sum);
        if (signals) arrive_at(pipe.chunk_free[stage]);
      }
      begin_products();
      multiply_weights_tile<T>(sum, weights, descriptor_of(pipe.stage[place.stage].keys));
      await_products(sum);
      if (signals) arrive_at(pipe.chunk_free[place.stage]);
      place.advance();
    }
    const OwnRows own = own_rows(note.tile, note.pass, warp);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = own.there[h] ? pipe.query_row[slot][own.row[h]] : 0;
      if (arguments.finished != nullptr)
        store_row(arguments.finished, arguments.finished_type, row, arguments.finished_width, sum, h,
                  arguments.gradient_scale, own.there[h]);
      else if (own.there[h])
        store_gradient(arguments.dquery + row * kHopperColumns, kHopperColumns, sum, h,
                       arguments.gradient_scale, true);
    }
    release_tile(pipe, turn);
  }
}

/// Products of a chunk of rows to weights (x) and their gradients (along).
template <class T>
__device__ __forceinline__ void weigh_rows(float (&x)[8][4], float (&along)[8][4], const KeyPipe& pipe,
                                           int stage, int32_t first_rank, int warp, float scale) {
  const unsigned t = threadIdx.x % 4;
  const int slot[2] = {warp * kWarpRows + static_cast<int>(threadIdx.x % 32 / 4),
                       warp * kWarpRows + static_cast<int>(threadIdx.x % 32 / 4) + 8};
  const float bias[2] = {pipe.key_bias[stage][slot[0]], pipe.key_bias[stage][slot[1]]};
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 lse = *reinterpret_cast<const float2*>(&pipe.lse[stage][n * 8 + 2 * t]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      x[n][2 * h] = fmaf(x[n][2 * h], scale, bias[h] - lse.x);
      x[n][2 * h + 1] = fmaf(x[n][2 * h + 1], scale, bias[h] - lse.y);
    }
  }
  if (pipe.chunk[stage].is_masked != 0) {
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const unsigned row = n * 8 + 2 * t + e % 2;
        const int32_t rank = first_rank + slot[e / 2];
        if (rank < pipe.first[stage][row] || rank >= pipe.last[stage][row]) x[n][e] = minus_infinity();
      }
  }
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 delta = *reinterpret_cast<const float2*>(&pipe.delta[stage][n * 8 + 2 * t]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[n][e] = power_of_two<T>(x[n][e]);
      along[n][e] = x[n][e] * (along[n][e] - (e % 2 == 0 ? delta.x : delta.y));
    }
  }
}

template <class T>
__device__ __forceinline__ void multiply_key_gradient(const KeyGradientArguments& arguments, KeyPipe& pipe) {
  const int warp = static_cast<int>(own_warp());
  const bool signals = threadIdx.x % 32 == 0;
  PipePlace<KeyGradientShape::kStages> place;
  float x[8][4] = {};
  float along[8][4] = {};
  float dkey[8][4];
  float dvalue[8][4];
  for (int turn = 0;; ++turn) {
    const int side = turn % 2;
    await_phase(pipe.job_full[side], turn / 2 % 2);
    const JobNote& note = pipe.job[side];
    if (note.is_end != 0) return;
    clear_products(dkey);
    clear_products(dvalue);
    if (note.has_chunks != 0) {
      const uint64_t keys = descriptor_of(pipe.keys[side] + warp / 4 * kTileBytes);
      const uint64_t values = descriptor_of(pipe.values[side] + warp / 4 * kTileBytes);
      const auto start = [&] {
        multiply_tiles<T>(x, keys, descriptor_of(pipe.stage[place.stage].queries));
        multiply_tiles<T>(along, values, descriptor_of(pipe.stage[place.stage].upstream));
      };
      uint32_t weights[4][4];
      uint32_t gradients[4][4];
      const auto finish = [&](int stage) {
        multiply_weights_tile<T>(dvalue, weights, descriptor_of(pipe.stage[stage].upstream));
        multiply_weights_tile<T>(dkey, gradients, descriptor_of(pipe.stage[stage].queries));
      };
      await_phase(pipe.chunk_full[place.stage], place.parity);
      show_to_products();
      begin_products();
      start();
      await_products(x, along);
      for (;;) {
        const int stage = place.stage;
        weigh_rows<T>(x, along, pipe, stage, note.job.rank, warp, arguments.inputs.scale);
        pack_weights<T>(weights, x);
        pack_weights<T>(gradients, along);
        if (pipe.chunk[stage].is_last != 0) break;
        place.advance();
        await_phase(pipe.chunk_full[place.stage], place.parity);
        show_to_products();
        begin_products();
        finish(stage);
        start();
        await_products(x, along, dkey, dvalue);
        if (signals) arrive_at(pipe.chunk_free[stage]);
      }
      begin_products();
      finish(place.stage);
      await_products(dkey, dvalue);
      if (signals) arrive_at(pipe.chunk_free[place.stage]);
      place.advance();
    }
    const KeyJob& job = note.job;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int slot = warp * kWarpRows + static_cast<int>(threadIdx.x % 32 / 4) + 8 * h;
      const bool there = slot < job.count;
      const int64_t row = there ? pipe.key_row[side][slot] : 0;
      if (arguments.finished_key != nullptr) {
        const bool begun = there && arguments.begun[row] != 0;
        finish_gradient(arguments.finished_value, arguments.finished_value_type, arguments.value_width, row,
                        dvalue, h, 1, begun ? arguments.value_gradient : nullptr, there);
        finish_gradient(arguments.finished_key, arguments.finished_key_type, arguments.key_width, row, dkey,
                        h, arguments.gradient_scale, begun ? arguments.key_gradient : nullptr, there);
      } else if (there && job.slot < 0) {  // no other job of the launch has these keys
        store_gradient(arguments.value_gradient + row * arguments.value_width, arguments.value_width, dvalue,
                       h, 1, arguments.adds);
        store_gradient(arguments.key_gradient + row * arguments.key_width, arguments.key_width, dkey, h,
                       arguments.gradient_scale, arguments.adds);
      } else if (there) {
        const int64_t place = (job.slot + slot) * kHopperColumns;
        store_gradient(arguments.dvalue + place, kHopperColumns, dvalue, h, 1, false);
        store_gradient(arguments.dkey + place, kHopperColumns, dkey, h, arguments.gradient_scale, false);
      }
    }
    __syncwarp();
    if (signals) arrive_at(pipe.job_free[side]);
  }
}

#endif

template <class T>
__global__ void __launch_bounds__(kHopperThreads<QueryGradientShape>, 1)
    hopper_query_gradient_kernel(const __grid_constant__ QueryGradientArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& pipe = aligned_shared<HopperPipe<QueryGradientShape>>(memory);
  begin_pipe(pipe);
  if (threadIdx.x >= kMultipliers<QueryGradientShape>) {
    give_registers<QueryGradientShape::kFeedRegisters>();
    feed_pipe<T>(arguments.plan, arguments.inputs, pipe, arguments.first_tile, arguments.tile_count,
                 {arguments.inputs.query, arguments.rows.upstream});
  } else {
    take_registers<QueryGradientShape::kMultiplierRegisters>();
    multiply_query_gradient<T>(arguments, pipe);
  }
#endif
}

template <class T>
__global__ void __launch_bounds__(kHopperThreads<KeyGradientShape>, 1)
    hopper_key_gradient_kernel(const __grid_constant__ KeyGradientArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& pipe = aligned_shared<KeyPipe>(memory);
  if (threadIdx.x == 0)
    begin_barriers(pipe.chunk_full, pipe.chunk_free, pipe.job_full, pipe.job_free,
                   kHopperWarps<KeyGradientShape>, KeyGradientShape::kFeedWarps,
                   KeyGradientShape::kFeedWarps * KeyGradientShape::kTeams);
  __syncthreads();
  if (threadIdx.x >= kMultipliers<KeyGradientShape>) {
    give_registers<KeyGradientShape::kFeedRegisters>();
    RowFeed<T>(arguments, pipe).run();
  } else {
    take_registers<KeyGradientShape::kMultiplierRegisters>();
    multiply_key_gradient<T>(arguments, pipe);
  }
#endif
}

}  // namespace hyperattn::cuda
