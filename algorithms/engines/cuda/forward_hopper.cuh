// The forward pass of one phase on Hopper's matrix units, for rows of 64 columns in 16 bits and key lists
// that the rows of a tile share: sixteen warps for 256 query rows, or eight for 128, and four that feed them
// (hopper_pipe.cuh).
#pragma once

#include "algorithms/engines/cuda/forward.cuh"
#include "algorithms/engines/cuda/hopper_pipe.cuh"

namespace hyperattn::cuda {

#if HYPERATTN_HAS_WGMMA

/// A row's reference follows its largest score when that is larger by more than this, in base 2: sums and
/// numerators are then scaled seldom, and weights are at most 2 to this power, for which fp16 has less room.
template <class T>
constexpr float kReferenceSlack = 16;
template <>
inline constexpr float kReferenceSlack<__half> = 8;
/// Sums of so many chunks are taken in fp32, then added up in double precision.
constexpr int kSumChunks = 16;

/// The running state of the two rows of a thread.
struct HopperRun {
  float maximum[2];
  float part[2];  ///< of the sum: what the thread's own columns have added to it lately
  double sum[2];
  float out[8][4];
};

/// To the sums that the four threads of a row all have.
__device__ __forceinline__ void add_parts(HopperRun& run) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float part = run.part[h];
    part += __shfl_xor_sync(0xffffffffU, part, 1);
    part += __shfl_xor_sync(0xffffffffU, part, 2);
    run.sum[h] += static_cast<double>(part);
    run.part[h] = 0;
  }
}

/// Sums and numerators for other references.
__device__ __forceinline__ void scale_run(HopperRun& run, const float (&factor)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    run.part[h] *= factor[h];
    run.sum[h] *= static_cast<double>(factor[h]);
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      run.out[c][2 * h] *= factor[h];
      run.out[c][2 * h + 1] *= factor[h];
    }
  }
}

/// Weighted scores x·scale + bias to weights; references, sums and numerators follow them. `count`: of the
/// tile's chunks so far.
template <class T>
__device__ __forceinline__ void weigh_chunk(float (&x)[8][4], HopperRun& run, float scale, float bias,
                                            int count) {
  float shift[2];
  float kept[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most[2] = {fmaxf(x[0][2 * h], x[0][2 * h + 1]), fmaxf(x[1][2 * h], x[1][2 * h + 1])};
#pragma unroll
    for (int n = 2; n < 8; ++n) most[n % 2] = fmaxf(most[n % 2], fmaxf(x[n][2 * h], x[n][2 * h + 1]));
    float all = fmaxf(most[0], most[1]);
    all = fmaxf(all, __shfl_xor_sync(0xffffffffU, all, 1));
    all = fmaxf(all, __shfl_xor_sync(0xffffffffU, all, 2));
    all = fmaf(all, scale, bias);
    const float before = run.maximum[h];
    const bool rises = all > before + kReferenceSlack<T>;
    run.maximum[h] = rises ? all : before;
    kept[h] = rises && before > minus_infinity() ? power_of_two<T>(before - all) : 1;
    shift[h] = bias - (run.maximum[h] > minus_infinity() ? run.maximum[h] : 0);
  }
  if (__any_sync(0xffffffffU, kept[0] != 1 || kept[1] != 1 || count % kSumChunks == 0)) {
    scale_run(run, kept);
    if (count % kSumChunks == 0) add_parts(run);
  }
  float sum[2][2] = {{run.part[0], 0}, {run.part[1], 0}};
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[n][e] = power_of_two<T>(fmaf(x[n][e], scale, shift[e / 2]));
      sum[e / 2][e % 2] += x[n][e];
    }
#pragma unroll
  for (int h = 0; h < 2; ++h) run.part[h] = sum[h][0] + sum[h][1];
}

/// Rows of a phase that is the only one have no state yet.
__device__ __forceinline__ void begin_run(const ForwardArguments& arguments, const int64_t* query_row,
                                          const OwnRows& own, HopperRun& run) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    run.maximum[h] = minus_infinity();
    run.part[h] = 0;
    run.sum[h] = 0;
  }
  clear_products(run.out);
  if (arguments.is_only) return;
  const RowState& state = arguments.state;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    run.maximum[h] = state.maximum[row];
    run.sum[h] = state.sum[row];  // a NaN where all scores so far are: the maximum does not show it
    if (!(run.maximum[h] > minus_infinity())) continue;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const float2 pair = *reinterpret_cast<const float2*>(state.out + row * kHopperColumns + c * 8 + 2 * t);
      run.out[c][2 * h] = pair.x;
      run.out[c][2 * h + 1] = pair.y;
    }
  }
}

/// Numerators times `factor` as 64 elements of a row in 16 bits: neighbours change pairs, so that four
/// threads write 32 bytes side by side.
template <class T>
__device__ __forceinline__ void store_row(T* out, const float (&sum)[8][4], int h, float factor, bool there) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool odd = t % 2 != 0;
#pragma unroll
  for (int c = 0; c < 8; c += 2) {
    const uint32_t first =
        pack(sum[c][2 * h] * factor, sum[c][2 * h + 1] * factor, static_cast<const T*>(nullptr));
    const uint32_t second =
        pack(sum[c + 1][2 * h] * factor, sum[c + 1][2 * h + 1] * factor, static_cast<const T*>(nullptr));
    const uint32_t other = __shfl_xor_sync(0xffffffffU, odd ? first : second, 1);
    const uint2 both = odd ? uint2{other, second} : uint2{first, other};
    if (there) *reinterpret_cast<uint2*>(out + (c + (odd ? 1 : 0)) * 8 + t / 2 * 4) = both;
  }
}

/// Row `row` of a matrix in some type.
__device__ __forceinline__ void store_row(void* rows, Precision type, int64_t row, int width,
                                          const float (&sum)[8][4], int h, float factor, bool there) {
  if (width == kHopperColumns && type == Precision::bf16)
    return store_row(static_cast<__nv_bfloat16*>(rows) + row * kHopperColumns, sum, h, factor, there);
  if (width == kHopperColumns && type == Precision::fp16)
    return store_row(static_cast<__half*>(rows) + row * kHopperColumns, sum, h, factor, there);
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = c * 8 + 2 * t + e;
      if (there && column < width)
        store_element(rows, type, row * width + column, sum[c][2 * h + e] * factor);
    }
}

/// What store_finished does.
__device__ __forceinline__ void finish_run(const FinishArguments& finish, const int64_t* query_row,
                                           const OwnRows& own, const HopperRun& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const auto sum = static_cast<float>(run.sum[h]);
    const int64_t row = own.there[h] ? query_row[own.row[h]] : 0;
    const RowEnd end = row_end(sum, 0);
    const RowValues values = row_values_in_fp32(run.maximum[h], sum);
    const float factor = end.empty ? 0.0F : values.inverse;
    float check = 0;  // becomes NaN by a NaN or infinity
#pragma unroll
    for (int c = 0; c < 8; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) check = fmaf(run.out[c][2 * h + e] * factor, 0.0F, check);
    store_row(finish.out, finish.out_type, row, finish.value_dim, run.out, h, factor, own.there[h]);
    const bool infinite = any_of_four(!(check == 0));
    if (t == 0 && own.there[h]) store_row_end(finish, row, run.maximum[h], run.sum[h], end, values, infinite);
  }
}

__device__ __forceinline__ void keep_run(const RowState& state, const int64_t* query_row, const OwnRows& own,
                                         const HopperRun& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    if (t == 0) {
      state.maximum[row] = run.maximum[h];
      state.sum[row] = run.sum[h];
    }
#pragma unroll
    for (int c = 0; c < 8; ++c)
      *reinterpret_cast<float2*>(state.out + row * kHopperColumns + c * 8 + 2 * t) = {run.out[c][2 * h],
                                                                                      run.out[c][2 * h + 1]};
  }
}

/// Whether one of the 64 rows from `first_row` on sees a key of the chunk.
__device__ __forceinline__ bool sees(const TileNote& note, int first_row, const ChunkNote& chunk) {
  if (chunk.is_masked == 0) return true;
  const int64_t first = note.tile.begin + first_row;
  const int64_t last = note.tile.begin + min(first_row + kProductRows, note.tile.count) - 1;
  return chunk.first_rank < last_visible(note.pass, last) &&
         chunk.first_rank + kChunkKeys > first_visible(note.pass, first);
}

/// All chunks of a tile, in its order, that the 64 rows from `first_row` on see. Weights times values of a
/// chunk and queries times keys of the next are under way together. `x` has no meaning before or afterwards.
template <class T, class Shape>
__device__ __forceinline__ void multiply_chunks(float scale_of_scores, HopperPipe<Shape>& pipe,
                                                PipePlace<Shape::kStages>& place, const TileNote& note,
                                                int first_row, uint64_t queries, float (&x)[8][4],
                                                HopperRun& run) {
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) arrive_at(pipe.chunk_free[stage]);
  };
  const auto keys_of = [first = descriptor_of(pipe.stage[0].keys)](int stage) {
    return first + static_cast<unsigned>(stage) * kDescribed<sizeof(HopperStage)>;
  };
  const bool has_rows = first_row < note.tile.count;
  int count = 0;
  for (;;) {
    await_phase(pipe.chunk_full[place.stage], place.parity);
    ChunkNote chunk = pipe.chunk[place.stage];
    if (!has_rows || !sees(note, first_row, chunk)) {
      __syncwarp();
      release(place.stage);
      place.advance();
      if (chunk.is_last != 0) return;
      continue;
    }
    show_to_products();
    begin_products();
    multiply_tiles<T>(x, queries, keys_of(place.stage));
    await_products(x);
    for (bool goes_on = true; goes_on;) {
      const int stage = place.stage;
      const bool is_last = chunk.is_last != 0;
      float scale = scale_of_scores;
      float bias = chunk.bias;
      if (isnan(bias)) {
        score_chunk(x, pipe.bias[stage], chunk, note, scale);
        scale = 1;
        bias = 0;
      }
      weigh_chunk<T>(x, run, scale, bias, ++count);
      uint32_t weights[4][4];
      pack_weights<T>(weights, x);
      place.advance();
      begin_products();
      multiply_weights_tile<T>(run.out, weights, keys_of(stage) + kDescribed<kTileBytes>);
      end_products();
      if (!is_last) {
        await_phase(pipe.chunk_full[place.stage], place.parity);
        chunk = pipe.chunk[place.stage];
      }
      goes_on = !is_last && sees(note, first_row, chunk);
      if (goes_on) {
        show_to_products();
        begin_products();
        multiply_tiles<T>(x, queries, keys_of(place.stage));
        await_products(x, run.out);
      } else {
        await_ended(run.out);
      }
      release(stage);
      if (is_last) return;
    }
  }
}

/// The warps that multiply.
template <class T, class Shape>
__device__ __forceinline__ void multiply_forward(const ForwardArguments& arguments, HopperPipe<Shape>& pipe) {
  const int warp = static_cast<int>(own_warp());
  PipePlace<Shape::kStages> place;
  float x[8][4] = {};
  for (int turn = 0;; ++turn) {
    const int side = turn % 2;
    const int slot = turn % HopperPipe<Shape>::kNotes;
    await_phase(pipe.tile_full[side], turn / 2 % 2);
    const TileNote& note = pipe.note[slot];
    const int64_t* query_row = pipe.query_row[slot];
    if (note.is_end != 0) return;
    HopperRun run;
    begin_run(arguments, query_row, own_rows(note.tile, note.pass, warp), run);
    if (pipe.has_chunks[side] != 0)
      multiply_chunks<T, Shape>(arguments.inputs.scale, pipe, place, note, warp / 4 * kProductRows,
                                descriptor_of(pipe.rows[side][0] + warp / 4 * kTileBytes), x, run);
    add_parts(run);
    const OwnRows own = own_rows(note.tile, note.pass, warp);
    if (arguments.finishes(note.tile))
      finish_run(arguments.finish, query_row, own, run);
    else
      keep_run(arguments.state, query_row, own, run);
    release_tile(pipe, turn);
  }
}

#endif

template <class T, class Shape>
__global__ void __launch_bounds__(kHopperThreads<Shape>, Shape::kBlocks)
    hopper_forward_kernel(const __grid_constant__ ForwardArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto& pipe = aligned_shared<HopperPipe<Shape>>(memory);
  begin_pipe(pipe);
  if (threadIdx.x >= kMultipliers<Shape>) {
    give_registers<Shape::kFeedRegisters>();
    feed_pipe<T>(arguments.plan, arguments.inputs, pipe, arguments.first_tile, arguments.tile_count,
                 {arguments.inputs.query});
  } else {
    take_registers<Shape::kMultiplierRegisters>();
    multiply_forward<T, Shape>(arguments, pipe);
  }
#endif
}

/// Whether the kernel that was loaded is that for Hopper, and not one that the driver made of general code.
template <class T>
bool is_hopper_code() {
  static const bool is = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, hopper_forward_kernel<T, ForwardShape>) == cudaSuccess &&
           attributes.ptxVersion == 90;
  }();
  return is;
}

}  // namespace hyperattn::cuda
